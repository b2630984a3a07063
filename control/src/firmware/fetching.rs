//! What devices fetch during an update, and what they may fetch.

use crate::{db::Control, error::Error};

impl Control {
    /// Notes that a device fetched part of a version's image, or all of it. The first part also notes its
    /// boot count, which tells later whether it restarted. Returns whether a rollout of the version has
    /// the device.
    pub async fn note_fetched(
        &self,
        device_id: &str,
        version: &str,
        all: bool,
    ) -> Result<bool, Error> {
        let noted = self
            .execute(
                "UPDATE rollout_devices SET fetched_some = $1, fetched_all = (fetched_all OR $2),
                     refused = $5,
                     boot_before = CASE WHEN fetched_some THEN boot_before ELSE
                         (SELECT d.boot_count FROM devices d
                          WHERE d.device_id = rollout_devices.device_id) END
                 WHERE device_id = $3 AND version = $4 AND active
                     AND state IN ('offered', 'downloading')",
                vec![true.into(), all.into(), device_id.into(), version.into(), false.into()],
            )
            .await?;
        Ok(noted > 0)
    }

    /// Notes that a device was refused the image because its rollout is held, so that its error is not
    /// blamed on the version.
    pub async fn note_refused(&self, device_id: &str, version: &str) -> Result<(), Error> {
        self.execute(
            "UPDATE rollout_devices SET refused = $1
             WHERE device_id = $2 AND version = $3 AND active AND refused = $4
                 AND state IN ('offered', 'downloading')
                 AND rollout_id IN (SELECT r.id FROM rollouts r
                     WHERE r.state IN ('paused', 'stopped'))",
            vec![true.into(), device_id.into(), version.into(), false.into()],
        )
        .await
        .map(|_| ())
    }

    /// The version that a running rollout has sent to a device.
    pub async fn told_version(&self, device_id: &str) -> Result<Option<String>, Error> {
        let found: Option<(String,)> = self
            .fetch_optional(
                "SELECT m.version FROM rollout_devices m JOIN rollouts r ON r.id = m.rollout_id
                 WHERE m.device_id = $1 AND m.active AND r.state = 'running'
                     AND m.state IN ('offered', 'downloading', 'installing')",
                vec![device_id.into()],
            )
            .await?;
        Ok(found.map(|(version,)| version))
    }

    /// Whether a device may fetch a version because of a rollout: a running one has sent it the command,
    /// or a paused one had and the device has begun. After a stop no device may go on.
    pub async fn may_fetch(&self, device_id: &str, version: &str) -> Result<bool, Error> {
        let found: Option<(String,)> = self
            .fetch_optional(
                "SELECT m.state FROM rollout_devices m JOIN rollouts r ON r.id = m.rollout_id
                 WHERE m.device_id = $1 AND m.version = $2
                     AND ((r.state = 'running'
                             AND m.state IN ('offered', 'downloading', 'installing'))
                         OR (r.state = 'paused' AND (m.state IN ('downloading', 'installing')
                             OR (m.state = 'offered' AND (m.fetched_some
                                 OR EXISTS (SELECT 1 FROM commands c
                                     WHERE c.request_id = m.request_id AND c.status = 'ack'))))))",
                vec![device_id.into(), version.into()],
            )
            .await?;
        Ok(found.is_some())
    }

    /// Versions with a rollout that is not over, or whose newest rollout was aborted. Update checks must
    /// not offer them, or devices of later stages would get them by asking.
    pub async fn versions_held(&self) -> Result<Vec<String>, Error> {
        let rows: Vec<(String,)> = self
            .fetch_all(
                "SELECT DISTINCT r.version FROM rollouts r
                 WHERE r.state IN ('running', 'paused', 'stopped')
                     OR (r.state = 'aborted'
                         AND NOT EXISTS (SELECT 1 FROM rollouts n WHERE n.version = r.version
                             AND (n.created_at, n.id) > (r.created_at, r.id)))",
                vec![],
            )
            .await?;
        Ok(rows.into_iter().map(|(version,)| version).collect())
    }

    /// The number of failures of a version on a device, over all rollouts.
    pub async fn update_failures(&self, device_id: &str, version: &str) -> Result<i64, Error> {
        let sql = "SELECT CAST(COALESCE(SUM(failures), 0) AS BIGINT) FROM rollout_devices
             WHERE device_id = $1 AND version = $2";
        self.count(sql, vec![device_id.into(), version.into()]).await
    }
}
