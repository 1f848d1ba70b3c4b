//! Whole configs: those that ship must parse, those in `broken/` must give exactly the errors beside them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde::de::value::Error;
use serde::de::{Deserialize, Deserializer, Error as _, Visitor};

use crate::reference::{LeftOut, Section};
use crate::sections::{self, SECTIONS};
use crate::sheet::Sheet;
use crate::{Admin, Config, LayerSettings, Listener, Log, Node, ServiceSettings, parse, tables};

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
    let Some(LayerSettings::Framing(framing)) = config.layers.get("framing") else { panic!("{config:?}") };
    assert_eq!(framing.max_in_flight, 16);
    let ServiceSettings::Storage(storage) = &config.services["local"];
    assert_eq!(storage.url, "memory://", "the variable was put in");
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
fn every_default_of_the_reference_parses_to_itself() {
    for section in SECTIONS {
        let sample = (section.fill_in)(section.sample).unwrap();
        let mut text = section.sample.to_owned();
        for (name, default) in section.defaults() {
            text.push_str(&format!("{name} = {default}\n"));
        }
        assert_eq!((section.fill_in)(&text), Ok(sample), "{}", section.path);
        let sheet = Sheet::parse(section.path, &text).unwrap();
        let is_whole = tables::tidy(&sheet, section.path, section, 0..0, &mut sheet.root.clone());
        let faults = crate::Faults(sheet.into_faults());
        assert!(is_whole && faults.0.is_empty(), "{faults}");
    }
}

#[test]
fn the_reference_names_exactly_the_fields_there_are() {
    let fields = [
        fields::<Node>(&sections::NODE),
        fields::<Log>(&sections::LOG),
        fields::<Admin>(&sections::ADMIN),
        fields::<Listener>(&sections::LISTENER),
        fields::<layers::limits::Settings>(&sections::LIMITS),
        fields::<layers::framing::Settings>(&sections::FRAMING),
        fields::<layers::metrics::Settings>(&sections::METRICS),
        fields::<layers::trace::Settings>(&sections::TRACE),
        fields::<layers::route::Settings>(&sections::ROUTE),
        fields::<layers::route::Rule>(&sections::RULE),
        fields::<storage::Settings>(&sections::STORAGE),
    ];
    assert_eq!(fields.len(), SECTIONS.len(), "a section is not looked at");
    for (section, there_are) in fields {
        let named: BTreeSet<&str> = section.settings.iter().map(|setting| setting.name).collect();
        assert_eq!(named, there_are, "{}", section.path);
    }
}

#[test]
fn the_reference_shows_every_setting_with_its_default() {
    let page = crate::reference_markdown();
    assert!(page.contains("| `frame_bytes_max` |") && page.contains("| `\"100MiB\"` |"), "{page}");
    for section in SECTIONS {
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
