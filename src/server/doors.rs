//! The doors of the admin interface: a unix socket, an address.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use http::header::CONTENT_LENGTH;
use pingora::apps::http_app::ServeHttp as _;
use pingora::protocols::Stream;
use pingora::protocols::http::{HttpTask, ServerSession};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

use super::listener::{Socket, next, unix};
use crate::admin::{Access, Admin, Door};
use crate::base::control::Control;
use crate::base::task::{Spawner, TaskGuard};
use crate::exchange::ResponseHead;
use crate::plan::AdminDoors;
use crate::telemetry::Telemetry;

/// How many connections one door serves at a time; more wait until one of them ends.
const CONNECTIONS_MAX: usize = 64;
/// How long a head may take, and what is written until it is taken.
const STEP_TIME_MAX: Duration = Duration::from_secs(10);
/// How long a connection is kept that is not used.
const IDLE_MAX: Duration = Duration::from_secs(60);

/// A door that is open.
#[derive(Debug)]
pub struct OpenDoor {
    socket: Socket,
    access: Access,
    /// The address as a URL.
    pub url: String,
}

/// Opens the doors. Must be called inside a runtime.
///
/// # Errors
/// The first address that cannot be had, and why.
pub async fn open(doors: &AdminDoors) -> Result<Vec<OpenDoor>, (String, io::Error)> {
    let mut open = Vec::new();
    if let Some(path) = &doors.socket {
        let url = format!("unix:{}", path.display());
        let bind = || -> io::Result<UnixListener> {
            let socket = unix(path)?;
            // Whoever may connect may do everything: the owner and the group.
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
            Ok(socket)
        };
        let socket = bind().map_err(|error| (url.clone(), error))?;
        open.push(OpenDoor {
            socket: Socket::Unix(socket, path.clone()),
            access: Access::new(Door::Socket, Vec::new()),
            url,
        });
    }
    if let Some(address) = doors.address {
        let bound = TcpListener::bind(address).await;
        let socket = bound.map_err(|error| (address.to_string(), error))?;
        let address = socket.local_addr().unwrap_or(address);
        open.push(OpenDoor {
            socket: Socket::Tcp(socket),
            access: Access::new(Door::Address, doors.tokens.clone()),
            url: format!("http://{address}"),
        });
    }
    Ok(open)
}

/// Answers at a door for as long as the task lives.
pub(super) fn serve(
    door: OpenDoor,
    control: Arc<dyn Control>,
    telemetry: Arc<Telemetry>,
    shutdown: watch::Receiver<bool>,
    spawner: &Spawner,
) -> TaskGuard {
    let OpenDoor { socket, access, .. } = door;
    let admin = Admin {
        control,
        telemetry,
        access,
    };
    let (admin, free) = (Arc::new(admin), Arc::new(Semaphore::new(CONNECTIONS_MAX)));
    let tasks = spawner.clone();
    spawner.spawn(async move {
        while let Ok(place) = Arc::clone(&free).acquire_owned().await {
            let Ok((stream, _)) = next(&socket).await else {
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            let (admin, shutdown) = (Arc::clone(&admin), shutdown.clone());
            tasks.detach(async move {
                converse(&admin, Box::new(stream), &shutdown).await;
                drop(place);
            });
        }
    })
}

/// Answers what cannot be read; Pingora's own answer would tell its name.
async fn refuse(session: &mut ServerSession) -> pingora::Result<()> {
    session.set_keepalive(None);
    let mut head = ResponseHead::build(StatusCode::BAD_REQUEST, Some(2))?;
    head.insert_header(CONTENT_LENGTH, "0")?;
    session.write_response_header(Box::new(head)).await?;
    session.finish_body().await.map(drop)
}

/// Answers one request after the other. What a client sent is never logged: it may hold a token.
async fn converse(admin: &Admin, stream: Stream, shutdown: &watch::Receiver<bool>) {
    let (mut stream, mut patience) = (Some(stream), STEP_TIME_MAX);
    while let Some(connection) = stream.take() {
        let mut session = ServerSession::new_http1(connection);
        session.set_keepalive(Some(patience.as_secs()));
        session.set_write_timeout(Some(STEP_TIME_MAX));
        session.set_total_drain_timeout(Some(STEP_TIME_MAX));
        match timeout(patience, session.read_request()).await {
            Ok(Ok(true)) => {}
            Ok(Err(_)) => return drop(refuse(&mut session).await),
            Ok(Ok(false)) | Err(_) => return,
        }
        let stays = (!*shutdown.borrow()).then_some(IDLE_MAX.as_secs());
        session.set_keepalive(stays);
        let (head, body) = admin.response(&mut session).await.into_parts();
        let answer = vec![
            HttpTask::Header(Box::new(head.into()), body.is_empty()),
            HttpTask::Body(Some(body.into()), true),
        ];
        if session.response_duplex_vec(answer).await.is_err() {
            return;
        }
        let reusable = session.finish().await.ok().flatten();
        stream = reusable.map(|reusable| reusable.into_parts().0);
        patience = IDLE_MAX;
    }
}
