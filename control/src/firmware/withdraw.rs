//! Taking back update commands that their devices have not received.

use acuvim_model::UpdateState;
use uuid::Uuid;

use crate::{audit::By, db::Tx, error::Error};

/// Takes back the update commands of a rollout that were not delivered yet, and moves their devices to a
/// state.
pub(super) async fn withdraw(
    tx: &mut Tx,
    id: Uuid,
    then: UpdateState,
    by: &By,
) -> Result<(), Error> {
    let offered: Vec<(String, Uuid)> = tx
        .fetch_all(
            "SELECT r.device_id, r.request_id FROM rollout_devices r
             JOIN commands c ON c.request_id = r.request_id
             WHERE r.rollout_id = $1 AND r.active AND c.status = 'pending'",
            vec![id.into()],
        )
        .await?;
    for (device_id, request_id) in &offered {
        if !tx.take_back_command(*request_id, by).await? {
            continue;
        }
        tx.execute(
            "UPDATE rollout_devices SET state = $1, since = $2, request_id = NULL, active = $3
             WHERE rollout_id = $4 AND device_id = $5 AND state = 'offered'",
            vec![
                then.as_str().into(),
                by.at.into(),
                (!then.is_over()).into(),
                id.into(),
                device_id.as_str().into(),
            ],
        )
        .await?;
    }
    Ok(())
}
