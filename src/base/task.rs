//! Tasks that stop when what they work for is gone.

use std::future::Future;

use tokio::runtime::Handle;
use tokio::task::JoinHandle;

/// Starts tasks; the only way to start one.
#[derive(Debug, Clone)]
pub struct Spawner(Handle);

/// Keeps a task alive; dropping it stops the task.
#[derive(Debug)]
#[must_use = "dropping the guard stops the task"]
pub struct TaskGuard(JoinHandle<()>);

impl Spawner {
    /// Starts tasks on the runtime of `handle`.
    #[must_use]
    pub fn new(handle: Handle) -> Self {
        Self(handle)
    }

    /// Starts a task that lives as long as the guard.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> TaskGuard {
        TaskGuard(self.0.spawn(task))
    }

    /// Starts a task that ends by itself: one connection.
    pub fn detach(&self, task: impl Future<Output = ()> + Send + 'static) {
        drop(self.0.spawn(task));
    }
}

impl Drop for TaskGuard {
    fn drop(&mut self) {
        self.0.abort();
    }
}
