//! Threads for work that computes without a pause. It must not hold up the server's own threads, which
//! take messages and feed the stream.

use tokio::runtime::{Builder, Handle, Runtime};

/// A runtime of its own for one kind of work.
#[derive(Debug)]
pub struct WorkThreads(Option<Runtime>);

impl WorkThreads {
    /// Threads for queries, with this many bytes of stack each.
    ///
    /// # Errors
    /// When the threads can't be started.
    pub fn for_queries(threads: usize, stack: usize) -> std::io::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(threads)
            .thread_name("sql")
            .thread_stack_size(stack)
            .enable_all()
            .build()?;
        Ok(Self(Some(runtime)))
    }

    /// Threads for this many blocking tasks of a name.
    ///
    /// # Errors
    /// When the threads can't be started.
    pub fn for_blocking(name: &str, tasks: usize) -> std::io::Result<Self> {
        let runtime = Builder::new_multi_thread()
            // It only starts the tasks, which run on blocking threads.
            .worker_threads(1)
            .max_blocking_threads(tasks)
            .thread_name(name)
            .build()?;
        Ok(Self(Some(runtime)))
    }

    /// Where to spawn the work.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.0.as_ref().map_or_else(Handle::current, |runtime| runtime.handle().clone())
    }
}

impl Drop for WorkThreads {
    fn drop(&mut self) {
        // Without waiting for tasks that still run: nothing is left to take their results.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
