//! Documents in a Redis, for gateways on several machines: a hash of two fields, the version and the document.

use std::time::Duration;

use bytes::Bytes;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, ConnectionInfo, RedisResult, Script};
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::{DOCUMENT_BYTES_MAX, RedisSpec, Stored, Unreadable, Unwritten, Version};
use crate::base::digest::Digest;

/// How long a whole document may take, which is longer than a question.
const DOCUMENT_PATIENCE: Duration = Duration::from_secs(5);

/// Puts a document in the place of the one that its writer knows, and of no other.
const WRITE: &str = "
if (redis.call('HGET', KEYS[1], 'version') or '') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'version', ARGV[2], 'document', ARGV[3])
return 1";

/// A Redis.
pub(super) struct Redis {
    spec: RedisSpec,
    client: Client,
    write: Script,
    /// None: there is none yet, or it broke.
    connection: Mutex<Option<MultiplexedConnection>>,
}

impl std::fmt::Debug for Redis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Never its password.
        f.debug_struct("Redis").finish_non_exhaustive()
    }
}

impl PartialEq for Redis {
    fn eq(&self, other: &Self) -> bool {
        self.spec == other.spec
    }
}

impl Redis {
    /// Nobody is asked before it is used.
    ///
    /// # Errors
    /// What is wrong with the URL, and how to mend it.
    pub(super) fn new(spec: &RedisSpec) -> Result<Self, (String, &'static str)> {
        const HINT: &str = "e.g. `redis://10.0.0.5:6379`, or `rediss://` over TLS";
        let tcp = ["redis://", "rediss://"];
        let url: Option<ConnectionInfo> = spec.url.parse().ok();
        let url = url.filter(|_| tcp.iter().any(|scheme| spec.url.starts_with(scheme)));
        let Some(info) = url else {
            return Err(("this is no URL of a Redis".to_owned(), HINT));
        };
        if spec.url.contains('#') {
            // `#insecure` would have the certificate of whoever answers believed.
            let hint = "take it out; a certificate is always verified";
            return Err(("words behind `#` in the URL".to_owned(), hint));
        }
        let settings = info.redis_settings().clone();
        if settings.password().is_some() {
            let hint = "write it as `password: { file: path }`";
            return Err(("a password in the URL".to_owned(), hint));
        }
        let settings = match &spec.password {
            Some(password) => settings.set_password(password),
            None => settings,
        };
        let client = Client::open(info.set_redis_settings(settings.set_skip_set_lib_name()));
        let client = client.map_err(|error| (error.to_string(), HINT))?;
        Ok(Self {
            spec: spec.clone(),
            client,
            write: Script::new(WRITE),
            connection: Mutex::new(None),
        })
    }

    /// The document, where it is another than the one that is `known`.
    pub(super) async fn look(
        &self,
        document: &str,
        known: Option<Version>,
    ) -> Result<Option<Stored>, Unreadable> {
        let mut kept = self.connection.lock().await;
        let read = self.read(&mut kept, document, known).await;
        if read.is_err() {
            *kept = None;
        }
        read
    }

    async fn read(
        &self,
        kept: &mut Option<MultiplexedConnection>,
        document: &str,
        known: Option<Version>,
    ) -> Result<Option<Stored>, Unreadable> {
        let key = key(document);
        let connection = self.connection(kept).await.map_err(Unreadable)?;
        let mut question = redis::cmd("HGET");
        let asked = question.arg(&key).arg("version").query_async(connection);
        let version: Option<String> = self.in_time(asked).await.map_err(Unreadable)?;
        let version = match &version {
            Some(text) => Some(Digest::parse(text).ok_or_else(strange)?),
            None => None,
        };
        if known == Some(version) {
            return Ok(None);
        }
        let mut question = redis::cmd("HMGET");
        let question = question.arg(&key).arg("version").arg("document");
        let asked = timeout(DOCUMENT_PATIENCE, question.query_async(connection)).await;
        let asked: RedisResult<(Option<String>, Option<Vec<u8>>)> =
            asked.map_err(|_elapsed| Unreadable(late()))?;
        let (version, bytes) = asked.map_err(|error| Unreadable(error.to_string()))?;
        let stored = Stored::new(bytes.map(Bytes::from));
        let same = stored.version.map(|it| it.hex()) == version;
        let fits = stored
            .bytes
            .as_ref()
            .is_none_or(|it| it.len() <= DOCUMENT_BYTES_MAX);
        if same && fits {
            Ok(Some(stored))
        } else {
            Err(strange())
        }
    }

    /// Writes the document, if it is still `expected`.
    pub(super) async fn write(
        &self,
        document: &str,
        expected: Version,
        bytes: &Bytes,
    ) -> Result<(), Unwritten> {
        let mut kept = self.connection.lock().await;
        let connection = self
            .connection(&mut kept)
            .await
            .map_err(Unwritten::Failed)?;
        let before = expected.map(|version| version.hex()).unwrap_or_default();
        let mut call = self.write.key(key(document));
        call.arg(before).arg(Digest::of(bytes).hex()).arg(&**bytes);
        let asked = timeout(DOCUMENT_PATIENCE, call.invoke_async(connection)).await;
        let done: Result<i64, String> = match asked {
            Ok(done) => done.map_err(|error| error.to_string()),
            Err(_elapsed) => Err(late()),
        };
        match done {
            Ok(1) => Ok(()),
            Ok(_) => Err(Unwritten::Outrun),
            Err(error) => {
                *kept = None;
                Err(Unwritten::Failed(error))
            }
        }
    }

    async fn connection<'a>(
        &self,
        kept: &'a mut Option<MultiplexedConnection>,
    ) -> Result<&'a mut MultiplexedConnection, String> {
        if kept.is_none() {
            let config = AsyncConnectionConfig::new()
                .set_connection_timeout(Some(DOCUMENT_PATIENCE))
                .set_response_timeout(Some(DOCUMENT_PATIENCE));
            let made = self
                .client
                .get_multiplexed_async_connection_with_config(&config);
            *kept = Some(made.await.map_err(|error| error.to_string())?);
        }
        kept.as_mut().ok_or_else(late)
    }

    async fn in_time<T>(&self, asked: impl Future<Output = RedisResult<T>>) -> Result<T, String> {
        match timeout(self.spec.timeout.duration(), asked).await {
            Ok(answer) => answer.map_err(|error| error.to_string()),
            Err(_elapsed) => Err(late()),
        }
    }
}

fn key(document: &str) -> String {
    format!("doorward:{document}")
}

fn late() -> String {
    "it did not answer in time".to_owned()
}

fn strange() -> Unreadable {
    Unreadable("it holds what nobody wrote here".to_owned())
}
