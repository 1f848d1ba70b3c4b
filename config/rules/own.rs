//! Runs each kind's own check of its settings, and refuses two services on one store.

use kernel::settings::SettingFault;

use crate::decode::Draft;
use crate::sheet::Sheet;

/// Runs each kind's `check`.
pub(super) fn check(sheet: &Sheet<'_>, draft: &Draft) {
    let Some(node) = &draft.node else { return };
    let limits = node.limits();
    for (name, layer) in &draft.layers {
        if let (Some(kind), Some(settings)) = (layer.kind, &layer.settings) {
            report(sheet, "layers", name, (kind.check)(settings, &limits));
        }
    }
    for (name, service) in &draft.services {
        if let Some(service) = service {
            report(sheet, "services", name, (service.kind.check)(&service.settings, &limits));
        }
    }
}

/// Reports faults where the file has the setting, or else at the table if the default is at fault.
fn report(sheet: &Sheet<'_>, table_name: &str, name: &str, faults: Vec<SettingFault>) {
    for fault in faults {
        let message = sentence(table_name, name, &fault);
        match (sheet.span(&[table_name, name, fault.setting]), sheet.span(&[table_name, name])) {
            (Some(setting), _) => sheet.fault(setting, message),
            (None, _) if !fault.concerns_default => {}
            (None, Some(table)) => sheet.fault(table, message),
            (None, None) => sheet.fault_in_file(message),
        }
    }
}

/// The path of the setting and the message. A message that names the setting itself is prefixed with the table only.
fn sentence(table_name: &str, name: &str, fault: &SettingFault) -> String {
    let SettingFault { setting, message, .. } = fault;
    if message.starts_with(setting) {
        format!("{table_name}.{name}: {message}")
    } else {
        format!("{table_name}.{name}.{setting}: {message}")
    }
}

/// Two services must not use one store.
pub(super) fn held_twice(sheet: &Sheet<'_>, draft: &Draft) {
    let mut seen: Vec<(&str, String)> = Vec::new();
    for (name, service) in &draft.services {
        let Some(service) = service else { continue };
        let Some((setting, held)) = (service.kind.holds)(&service.settings) else { continue };
        let Some((other, _)) = seen.iter().find(|(_, seen)| *seen == held) else {
            seen.push((name, held));
            continue;
        };
        let message =
            format!("services.{name}.{setting}: the service \"{other}\" keeps its data there already");
        let table = || sheet.span(&["services", name]);
        match sheet.span(&["services", name, setting]).or_else(table) {
            Some(span) => sheet.fault(span, message),
            None => sheet.fault_in_file(message),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_led_by_its_setting_once() {
        let fault = |message: &str| SettingFault {
            setting: "url",
            message: message.to_owned(),
            concerns_default: true,
        };
        assert_eq!(sentence("services", "a", &fault("it is odd")), "services.a.url: it is odd");
        assert_eq!(sentence("services", "a", &fault("url must be even")), "services.a: url must be even");
    }
}
