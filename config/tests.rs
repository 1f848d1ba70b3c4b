//! Whole configs: those that ship must parse, those in `broken/` must give exactly the errors beside them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use kernel::settings::{LeftOut, Setting};
use serde::de::value::Error;
use serde::de::{Deserialize, Deserializer, Error as _, Visitor};
use serde_json::Value;
use toml::de::DeValue;

use crate::convert::{to_json, to_toml};
use crate::section::Section;
use crate::sections::{self, RULE, all};
use crate::sheet::Sheet;
use crate::{Admin, Config, Listener, Log, Node, parse, tables};

/// The variables that the configs of the tests may use.
fn env(name: &str) -> Option<String> {
    match name {
        "YAGURA_TEST_URL" => Some("memory://".to_owned()),
        "YAGURA_TEST_LEVEL" => Some("loud".to_owned()),
        _ => None,
    }
}

fn files(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let entries = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> =
        entries.filter(|path| path.extension().is_some_and(|ending| ending == "toml")).collect();
    files.sort();
    files
}

fn parse_file(path: &Path) -> Result<Config, crate::Faults> {
    let name = path.file_name().unwrap().to_string_lossy().into_owned();
    parse(&name, &fs::read_to_string(path).unwrap(), &env)
}

#[test]
fn every_shipped_config_parses() {
    let files = files("stacks");
    assert!(files.len() >= 3, "{files:?}");
    for file in files {
        if let Err(faults) = parse_file(&file) {
            panic!("{faults}");
        }
    }
}

/// `YAGURA_BLESS=1` writes what the errors are now; review them before they are kept.
#[test]
fn every_broken_config_gives_its_errors() {
    let is_blessing = std::env::var_os("YAGURA_BLESS").is_some();
    let files = files("broken");
    assert!(files.len() >= 20, "{files:?}");
    let mut wrong = Vec::new();
    for file in files {
        let Err(faults) = parse_file(&file) else { panic!("{} is not broken", file.display()) };
        let said = format!("{faults}\n");
        let expected = file.with_extension("stderr");
        if is_blessing {
            fs::write(&expected, &said).unwrap();
        }
        if fs::read_to_string(&expected).ok().as_deref() != Some(said.as_str()) {
            wrong.push(format!("{} should hold:\n{said}", expected.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let faults = crate::load("no/such/file.toml").unwrap_err();
    assert!(faults.to_string().starts_with("no/such/file.toml: cannot be read: "), "{faults}");
}

const SMALL: &str = "[listeners.main]\nbind = '127.0.0.1:9092'\nstack = ['limits', 'framing', 'local']\n\
                     [services.local]\nkind = 'storage'\nurl = '${YAGURA_TEST_URL}'\n";

#[test]
fn what_is_left_out_has_its_default() {
    let config = parse("small.toml", SMALL, &env).unwrap();
    assert_eq!(config.node, Node::default());
    assert_eq!(config.log, Log::default());
    assert_eq!(config.admin, Admin::default());
    assert_eq!(config.layers.keys().collect::<Vec<_>>(), ["framing", "limits"]);
    assert_eq!(config.layers["framing"].settings.to_json()["max_in_flight"], 16);
    let local = config.services["local"].settings.to_json();
    assert_eq!(local["url"], "memory://", "the variable was put in");
    assert_eq!(config.services_of(&config.listeners["main"]), ["local"]);
}

#[test]
fn a_secret_is_read_from_its_file_and_never_shown() {
    let file = std::env::temp_dir().join(format!("yagura-secret-{}", std::process::id()));
    fs::write(&file, "hunter2\n").unwrap();
    let text = format!("{SMALL}[admin]\nbind = '0.0.0.0:9464'\ntoken = 'file:{}'\n", file.to_string_lossy());
    let config = parse("secret.toml", &text, &env);
    fs::remove_file(&file).unwrap();
    let config = config.unwrap();
    assert_eq!(config.admin.token.as_ref().map(|token| token.expose()), Some("hunter2"));
    let shown = format!("{config:?} {:?}", toml::Value::try_from(&config).unwrap());
    assert!(!shown.contains("hunter2") && shown.contains("***"), "{shown}");
}

#[test]
fn a_secret_in_a_faulty_line_is_not_shown() {
    let text = format!("{SMALL}[admin]\ntoken = 471147114711\n");
    let faults = parse("secret.toml", &text, &env).unwrap_err();
    assert!(!faults.to_string().contains("4711"), "{faults}");
}

#[test]
fn layers_and_services_are_shown_with_their_kind() {
    let config = parse("small.toml", SMALL, &env).unwrap();
    let shown = serde_json::to_value(&config).unwrap();
    assert_eq!(shown["layers"]["framing"]["kind"], "framing");
    assert_eq!(shown["layers"]["framing"]["max_in_flight"], 16);
    assert_eq!(shown["services"]["local"]["kind"], "storage");
    assert_eq!(shown["services"]["local"]["url"], "memory://");
}

#[test]
fn every_default_of_the_reference_parses_to_itself() {
    for section in all() {
        let sample = section.filled_in().unwrap();
        let mut text = String::new();
        let Ok(Value::Object(given)) = serde_json::from_str(section.sample) else {
            panic!("{} is no table", section.sample)
        };
        for (name, value) in &given {
            text.push_str(&format!("{name} = {}\n", to_toml(value)));
        }
        for (name, default) in section.defaults() {
            if !given.contains_key(name) {
                text.push_str(&format!("{name} = {default}\n"));
            }
        }
        let sheet = Sheet::parse(&section.path, &text).unwrap();
        let mut table = sheet.root.clone();
        let is_whole = tables::tidy(&sheet, &section.path, section.settings, 0..0, &mut table);
        let faults = crate::Faults(sheet.into_faults());
        assert!(is_whole && faults.0.is_empty(), "{faults}");
        let decoded = (section.decode)(to_json(&DeValue::Table(table)));
        assert_eq!(decoded, Ok(sample), "{}", section.path);
    }
}

#[test]
fn the_reference_names_exactly_the_fields_there_are() {
    let own = [
        fields::<Node>(&sections::NODE),
        fields::<Log>(&sections::LOG),
        fields::<Admin>(&sections::ADMIN),
        fields::<Listener>(&sections::LISTENER),
        fields::<layers::route::Settings>(&sections::ROUTE),
        fields::<layers::route::Rule>(&RULE),
    ];
    for (section, there_are) in own {
        assert_eq!(names(section.settings), there_are, "{}", section.path);
    }
}

/// The types of layers' and services' settings are not known here; what they show is. A field that shows nothing has no
/// default, and its line says what holds instead.
#[test]
fn the_reference_names_what_layers_and_services_show() {
    for section in all().iter().filter(|section| section.has_kind) {
        let shown = section.filled_in().unwrap().to_json();
        let shown: BTreeSet<&str> = shown.as_object().unwrap().keys().map(String::as_str).collect();
        let lines = section.settings.iter();
        let with_value = lines.filter(|setting| !matches!(setting.left_out, LeftOut::Means(_)));
        let with_value: BTreeSet<&str> = with_value.map(|setting| setting.name).collect();
        assert!(shown.is_subset(&names(section.settings)), "{}: {shown:?}", section.path);
        assert!(with_value.is_subset(&shown), "{}: {shown:?}", section.path);
    }
}

#[test]
fn the_reference_shows_every_setting_with_its_default() {
    let page = crate::reference_markdown();
    assert!(page.contains("| `frame_bytes_max` |") && page.contains("| `\"100MiB\"` |"), "{page}");
    for section in all() {
        for setting in section.settings.iter().filter(|setting| setting.left_out == LeftOut::Required) {
            let row = page.lines().find(|row| row.starts_with(&format!("| `{}` |", setting.name)));
            assert!(row.is_some(), "{} is missing", setting.name);
        }
    }
    assert!(
        !page.contains("| nothing |"),
        "a setting without a default says what happens without it:\n{page}"
    );
}

fn names(settings: &[Setting]) -> BTreeSet<&'static str> {
    settings.iter().map(|setting| setting.name).collect()
}

fn fields<'de, T: Deserialize<'de>>(section: &'static Section) -> (&'static Section, BTreeSet<&'static str>) {
    let mut fields = None;
    let _ = T::deserialize(FieldsOf(&mut fields));
    let fields = fields.expect("settings are structs with named fields");
    (section, fields.iter().copied().collect())
}

/// Learns which fields a struct asks for, and gives it none.
struct FieldsOf<'f>(&'f mut Option<&'static [&'static str]>);

impl<'de> Deserializer<'de> for FieldsOf<'_> {
    type Error = Error;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        _visitor: V,
    ) -> Result<V::Value, Error> {
        *self.0 = Some(fields);
        Err(Error::custom("the fields are known"))
    }

    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Error> {
        Err(Error::custom("not a struct"))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}
