//! What an init says of its services, in words of ours. Everything that comes from a grain is text that may be anything.

use serde::Deserialize;

use scrap_schema::id::GrainId;

use super::beside::refuse_frozen;
use super::{LxcRuntime, inside};
use crate::runtime::{Activity, RuntimeCause, ServiceState};

/// More are not told.
const SERVICES_MAX: usize = 1000;

/// A line of `systemctl list-units --output=json`.
#[derive(Debug, Deserialize)]
struct Unit {
    unit: String,
    active: String,
    sub: String,
}

fn of_systemd(text: &str) -> Option<Vec<ServiceState>> {
    let units: Vec<Unit> = serde_json::from_str(text).ok()?;
    let state = |unit: Unit| {
        let activity = match unit.active.as_str() {
            "active" => Activity::Active,
            "activating" | "deactivating" | "reloading" => Activity::Changing,
            "failed" => Activity::Failed,
            _ => Activity::Inactive,
        };
        ServiceState { name: unit.unit, activity, words: format!("{} ({})", unit.active, unit.sub) }
    };
    Some(units.into_iter().map(state).collect())
}

/// Lines of `rc-status --all --format ini`: `sshd = started`.
fn of_openrc(text: &str) -> Vec<ServiceState> {
    let lines = text.lines().filter_map(|line| line.split_once('='));
    let state = |(name, words): (&str, &str)| {
        let words = words.trim();
        let activity = match words.split(' ').next().unwrap_or_default() {
            "started" => Activity::Active,
            "starting" | "stopping" => Activity::Changing,
            "crashed" | "failed" => Activity::Failed,
            _ => Activity::Inactive,
        };
        ServiceState { name: name.trim().to_owned(), activity, words: words.to_owned() }
    };
    lines.map(state).collect()
}

impl LxcRuntime {
    /// Asks the init's own tool. Where there is none, nothing is known.
    pub(super) async fn list_services(
        &self,
        grain: GrainId,
    ) -> Result<Vec<ServiceState>, RuntimeCause> {
        const SYSTEMD: [&str; 8] = [
            "systemctl",
            "list-units",
            "--type=service",
            "--all",
            "--no-pager",
            "--plain",
            "--full",
            "--output=json",
        ];
        const OPENRC: [&str; 4] = ["rc-status", "--all", "--format", "ini"];
        let (record, init) = self.running(grain).await?;
        refuse_frozen(&record)?;
        let there = |program: &'static str| async move {
            let look = tokio::task::spawn_blocking(move || inside::find_program(init, program));
            matches!(look.await, Ok(Ok(())))
        };
        let mut services = if there("systemctl").await {
            let (succeeded, text) = self.ask_inside(grain, &SYSTEMD).await?;
            // Installed, but not the init: it says so by failing.
            of_systemd(&text).filter(|_| succeeded).unwrap_or_default()
        } else if there("rc-status").await {
            let (succeeded, text) = self.ask_inside(grain, &OPENRC).await?;
            if succeeded { of_openrc(&text) } else { Vec::new() }
        } else {
            Vec::new()
        };
        services.truncate(SERVICES_MAX);
        services.sort_by(|one, other| one.name.cmp(&other.name));
        services.dedup_by(|one, other| one.name == other.name);
        Ok(services)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_systemd_says_is_understood() {
        let text = r#"[{"unit":"ssh.service","load":"loaded","active":"active","sub":"running","description":"x"},
            {"unit":"b.service","load":"loaded","active":"failed","sub":"failed","description":"y"}]"#;
        let services = of_systemd(text).unwrap();
        assert_eq!(services[0].name, "ssh.service");
        assert_eq!(
            (services[0].activity, services[0].words.as_str()),
            (Activity::Active, "active (running)")
        );
        assert_eq!(services[1].activity, Activity::Failed);
        assert_eq!(of_systemd("System has not been booted with systemd"), None);
    }

    #[test]
    fn what_openrc_says_is_understood() {
        let services = of_openrc("[default]\nsshd =  started\ncron = crashed\nodd\n");
        let all: Vec<_> = services.iter().map(|one| (one.name.as_str(), one.activity)).collect();
        assert_eq!(all, [("sshd", Activity::Active), ("cron", Activity::Failed)]);
    }
}
