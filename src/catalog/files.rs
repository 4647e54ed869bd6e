//! The files of the catalog: those in the binary, and those of a folder.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use include_dir::{Dir, include_dir};

use super::definition::{Definition, Mistake};
use crate::source::{Source, SourceError};

static BUILT_IN: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/checks");
/// The folder of row sets, in the binary and in a user's folder.
const LISTINGS: &str = "listings";

/// Reads a file of this name and text.
type Parse = fn(&str, &str) -> Result<Definition, Mistake>;

/// Files by the names that they give what is in them.
#[derive(Debug, Default)]
pub(super) struct Files {
    pub(super) definitions: BTreeMap<String, Source>,
    pub(super) listings: BTreeMap<String, Source>,
}

impl Files {
    /// Those in the binary.
    pub(super) fn built_in() -> Self {
        Self { definitions: embedded(Some(&BUILT_IN)), listings: embedded(BUILT_IN.get_dir(LISTINGS)) }
    }

    /// Puts those of a folder in the place of those of the same names, or beside them.
    ///
    /// # Errors
    ///
    /// The folder or a file in it cannot be read.
    pub(super) fn with(mut self, folder: &Path) -> Result<Self, SourceError> {
        add(&mut self.definitions, folder)?;
        let folder = folder.join(LISTINGS);
        if folder.is_dir() {
            add(&mut self.listings, &folder)?;
        }
        Ok(self)
    }
}

/// A file that is parsed when somebody asks for it.
#[derive(Debug)]
pub(super) struct Unread {
    source: Source,
    read: OnceLock<Option<Arc<Definition>>>,
}

impl Unread {
    /// These files, before anybody has asked.
    pub(super) fn all(files: BTreeMap<String, Source>) -> BTreeMap<String, Self> {
        files.into_iter().map(|(name, source)| (name, Self { source, read: OnceLock::new() })).collect()
    }

    /// Parsed; that a built-in file is right the tests show.
    pub(super) fn read(&self, name: &str, parse: Parse) -> Option<&Arc<Definition>> {
        self.read.get_or_init(|| parsed(parse, name, &self.source).ok()).as_ref()
    }
}

/// Every file parsed.
///
/// # Errors
///
/// The first mistake found.
pub(super) fn parse_all(sources: &BTreeMap<String, Source>, parse: Parse) -> Result<Vec<Arc<Definition>>, SourceError> {
    let parsed = sources.iter().map(|(name, source)| {
        let mistake = |mistake: Mistake| source.mistake(mistake.at.start, mistake.reason);
        parsed(parse, name, source).map_err(mistake)
    });
    parsed.collect()
}

/// A file parsed, with the text shared and not copied where it is in the binary.
pub(super) fn parsed(parse: Parse, name: &str, source: &Source) -> Result<Arc<Definition>, Mistake> {
    let text = source.text.clone();
    parse(name, &source.text).map(|definition| Arc::new(Definition { text, ..definition }))
}

fn embedded(folder: Option<&'static Dir<'static>>) -> BTreeMap<String, Source> {
    let files = folder.into_iter().flat_map(Dir::files);
    files
        .filter_map(|file| {
            let name = definition_name(file.path())?;
            let text = file.contents_utf8()?.into();
            Some((name, Source { file: Path::new("checks").join(file.path()), text }))
        })
        .collect()
}

fn add(sources: &mut BTreeMap<String, Source>, folder: &Path) -> Result<(), SourceError> {
    let unreadable = |source| SourceError::Read { path: folder.to_owned(), source };
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let file = entry.map_err(unreadable)?.path();
        let Some(name) = definition_name(&file) else { continue };
        sources.insert(name, Source::read(&file)?);
    }
    Ok(())
}

/// The name that a file gives its definition; none for files of other kinds, which a folder may hold beside them.
fn definition_name(file: &Path) -> Option<String> {
    let toml = file.extension().is_some_and(|extension| extension == "toml");
    let name = file.file_stem()?.to_str()?;
    (toml && !name.starts_with('.')).then(|| name.to_owned())
}
