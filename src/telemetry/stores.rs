//! What is told of the stores that hold who may come in: looked at when somebody reads the metrics.

use prometheus::IntGaugeVec;

use super::metrics::Register;

/// Whether stores can be read.
#[derive(Debug)]
pub(super) struct StoreMetrics {
    keys: IntGaugeVec,
}

impl StoreMetrics {
    pub(super) fn new(register: &Register<'_>) -> Result<Self, prometheus::Error> {
        Ok(Self {
            keys: register.gauges(
                "doorward_keys_store_readable",
                "Whether it is known who was made, suspended and revoked at run time",
                &["store"],
            )?,
        })
    }

    /// The store of consumers and keys, and whether it could be read lately.
    pub(super) fn keys(&self, store: Option<(&str, bool)>) {
        self.keys.reset();
        if let Some((name, readable)) = store {
            self.keys.with_label_values(&[name]).set(readable.into());
        }
    }
}
