//! The secrets that the first start creates: the admin's password and the key that signs tokens.

use std::{fs, io::Write as _, os::unix::fs::OpenOptionsExt as _, path::Path};

use acuvim_control::{By, Control, ErrorKind, new_secret};
use acuvim_model::Role;
use anyhow::Context as _;
use chrono::Utc;

use crate::settings::Settings;

/// The file with the first admin's password. It is deleted when the password is changed.
pub const PASSWORD_FILE: &str = "initial-admin-password";

/// Creates the user `admin` if there are no users yet. A random password is written to a private file
/// before the user is created, so that a crash in between can't leave a user with an unknown password.
pub async fn first_admin(settings: &Settings, control: &Control) -> anyhow::Result<()> {
    if !control.has_no_users().await? {
        return forget_changed(&settings.data.dir.join(PASSWORD_FILE), control).await;
    }
    let password = match &settings.admin.password {
        Some(password) => password.clone(),
        None => {
            let password = new_secret("");
            let path = settings.data.dir.join(PASSWORD_FILE);
            write_private(&path, &password)?;
            tracing::info!(file = %path.display(), "made the user admin; its password is in the file");
            password
        }
    };
    let hash = tokio::task::spawn_blocking(move || acuvim_query::hash_password(&password))
        .await?
        .map_err(|e| anyhow::anyhow!("the password can't be hashed: {e}"))?;
    match control.create_user("admin", &hash, Role::Admin, None, &By::system(Utc::now())).await {
        Ok(_) => Ok(()),
        // Another process has started at the same time, and its password counts.
        Err(error) if error.kind() == ErrorKind::Conflict => {
            if settings.admin.password.is_none() {
                fs::remove_file(settings.data.dir.join(PASSWORD_FILE))?;
            }
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}

/// Deletes the file if the password was changed, perhaps through another process.
async fn forget_changed(file: &Path, control: &Control) -> anyhow::Result<()> {
    let Ok(password) = fs::read_to_string(file) else { return Ok(()) };
    if let Some(admin) = control.user_by_name("admin").await? {
        let check = move || acuvim_query::is_password(&password, &admin.password_hash);
        if tokio::task::spawn_blocking(check).await? {
            return Ok(());
        }
    }
    fs::remove_file(file).with_context(|| file.display().to_string())?;
    tracing::info!(file = %file.display(), "removed a password that holds no more");
    Ok(())
}

/// The key that signs tokens: from the settings, or created once and stored in control, where every query
/// process finds it.
pub async fn jwt_secret(settings: &Settings, control: &Control) -> anyhow::Result<String> {
    match &settings.jwt.secret {
        Some(secret) => Ok(secret.clone()),
        None => Ok(control.shared_secret("jwt.secret").await?),
    }
}

fn write_private(path: &Path, text: &str) -> anyhow::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.open(path).with_context(|| path.display().to_string())?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    Ok(())
}
