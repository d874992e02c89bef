//! The thread that writes log lines, so that a stuck terminal or journal never holds up the server.

use std::io::Write;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use super::metrics::Counter;

/// Most lines waiting to be written; further ones are dropped and counted.
const MOST_WAITING: usize = 2048;

/// How long [`LogWriter::flush`] waits for a stuck output.
const FLUSH_LIMIT: Duration = Duration::from_secs(2);

enum Order {
    Line(String),
    Flush(SyncSender<()>),
}

/// Hands lines to the writing thread. Clones share the thread.
#[derive(Clone, Debug)]
pub struct LogWriter {
    orders: SyncSender<Order>,
    dropped: Counter,
}

impl LogWriter {
    /// Starts the thread; `dropped` counts the lines there was no room for.
    ///
    /// # Errors
    /// The operating system refuses another thread.
    pub fn start(output: Box<dyn Write + Send>, dropped: Counter) -> std::io::Result<Self> {
        let (orders, waiting) = sync_channel(MOST_WAITING);
        // Before any supervisor, which itself logs; it ends when the last handle is gone, or with the process.
        std::thread::Builder::new().name(String::from("log")).spawn(move || write_all(output, &waiting))?;
        Ok(Self { orders, dropped })
    }

    /// Queues `line`, which ends in a newline. Never waits.
    pub fn write(&self, line: String) {
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) = self.orders.try_send(Order::Line(line)) {
            self.dropped.inc();
        }
    }

    /// Waits until every line queued so far is written, at most two seconds.
    pub fn flush(&self) {
        let (done, written) = sync_channel(1);
        // With a full queue the output is stuck, and waiting for room could last for ever.
        if self.orders.try_send(Order::Flush(done)).is_ok() {
            let _: Result<(), RecvTimeoutError> = written.recv_timeout(FLUSH_LIMIT);
        }
    }
}

fn write_all(mut output: Box<dyn Write + Send>, waiting: &Receiver<Order>) {
    while let Ok(order) = waiting.recv() {
        match order {
            // There is nobody to tell about a failing log.
            Order::Line(line) => {
                let _ = output.write_all(line.as_bytes());
            }
            Order::Flush(done) => {
                let _ = output.flush();
                let _ = done.try_send(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn flushed_lines_are_written_in_order() {
        let output = Shared::default();
        let writer = LogWriter::start(Box::new(output.clone()), Counter::default()).unwrap();
        writer.write(String::from("one\n"));
        writer.write(String::from("two\n"));
        writer.flush();
        assert_eq!(output.0.lock().unwrap().as_slice(), b"one\ntwo\n");
    }

    #[test]
    fn a_stuck_output_costs_lines_but_no_time() {
        let output = Shared::default();
        let dropped = Counter::default();
        let stuck = Arc::clone(&output.0);
        let held = stuck.lock().unwrap();
        let writer = LogWriter::start(Box::new(output), dropped.clone()).unwrap();
        for _ in 0..MOST_WAITING + 10 {
            writer.write(String::from("x\n"));
        }
        assert!(dropped.value() >= 9, "{}", dropped.value());
        drop(held);
    }
}
