//! Which hosts webhooks may reach.

use std::sync::Arc;

/// Says why webhooks may not reach a host, as far as its name shows that.
#[derive(Clone)]
pub struct HostCheck(pub Arc<HostRefusal>);

/// The function of a [`HostCheck`]; it answers with nothing if a host may be reached.
pub type HostRefusal = dyn Fn(&str) -> Option<String> + Send + Sync;

impl std::fmt::Debug for HostCheck {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HostCheck")
    }
}
