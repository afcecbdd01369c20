//! The doors of the admin interface: a unix socket, an address.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use pingora::apps::ServerApp as _;
use pingora::apps::http_app::HttpServer;
use pingora::protocols::l4::stream::Stream as L4Stream;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;

use super::listener::{Socket, next, unix};
use crate::admin::{Access, Admin, Door};
use crate::base::control::Control;
use crate::base::task::{Spawner, TaskGuard};
use crate::plan::AdminDoors;
use crate::telemetry::Telemetry;

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
    let app = Arc::new(HttpServer::new_app(admin));
    let tasks = spawner.clone();
    spawner.spawn(async move {
        loop {
            let Ok((stream, _)) = next(&socket).await else {
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                continue;
            };
            let (app, shutdown) = (Arc::clone(&app), shutdown.clone());
            tasks.detach(async move {
                let stream: Box<L4Stream> = Box::new(stream);
                drop(app.process_new(stream, &shutdown).await);
            });
        }
    })
}
