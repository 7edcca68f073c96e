//! The fonts of the pictures: a Latin one in the binary, a Chinese one from the system.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use ab_glyph::{Font, FontArc, FontRef, FontVec};
use fontdb::{Database, FaceInfo, Style, Weight};

use super::language::Lang;

const LATIN_REGULAR: &[u8] = include_bytes!("../../assets/OpenSans-Regular.ttf");
const LATIN_BOLD: &[u8] = include_bytes!("../../assets/OpenSans-Semibold.ttf");
/// Families for simplified Chinese, the best first; any other that has the characters comes after them.
const CHINESE_FAMILIES: [&str; 11] = [
    "Noto Sans CJK SC",
    "Noto Sans SC",
    "Source Han Sans SC",
    "PingFang SC",
    "Microsoft YaHei",
    "Hiragino Sans GB",
    "WenQuanYi Micro Hei",
    "WenQuanYi Zen Hei",
    "Heiti SC",
    "SimHei",
    "Droid Sans Fallback",
];
/// The characters of numbers, dates and names, which the same font must have.
const LATIN: &str = " 0123456789.,:;+-–/()%?ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// The fonts of the system, which are looked for once.
static SYSTEM: OnceLock<Database> = OnceLock::new();

/// Fonts of the system for characters that a typeface lacks; none for those that no font has.
static OTHERS: Mutex<Option<HashMap<char, Option<FontArc>>>> = Mutex::new(None);

/// A font in two weights, and the language it is for.
#[derive(Clone, Debug)]
pub struct Typeface {
    lang: Lang,
    regular: FontArc,
    bold: FontArc,
    /// Whether a character was asked for that no font has.
    is_lacking: Arc<AtomicBool>,
}

impl Typeface {
    /// The embedded Latin font, for English.
    pub fn latin() -> Self {
        let font = |bytes| FontArc::try_from_slice(bytes).expect("the embedded font is valid");
        Typeface { lang: Lang::En, regular: font(LATIN_REGULAR), bold: font(LATIN_BOLD), is_lacking: Arc::default() }
    }

    /// A font for `lang`, from the binary or from the system's font folders (read once).
    /// Where the system has none with the characters needed: the Latin font and English, and a warning to show.
    pub fn system(lang: Lang) -> (Self, Option<&'static str>) {
        static CHINESE: OnceLock<(Typeface, Option<&'static str>)> = OnceLock::new();
        let load = || Self::from_fonts(lang, system());
        match lang {
            Lang::En => (Self::latin(), None),
            Lang::Zh => CHINESE.get_or_init(load).clone(),
        }
    }

    /// As [`Typeface::system`], from the given fonts.
    pub fn from_fonts(lang: Lang, fonts: &Database) -> (Self, Option<&'static str>) {
        if lang == Lang::En {
            return (Self::latin(), None);
        }
        let needed: String = lang.texts().all().chain([LATIN]).collect();
        let faces = upright(fonts);
        let found = faces.iter().filter(|face| covers(fonts, face, &needed)).find_map(|face| Some((face, load(fonts, face)?)));
        let Some((face, regular)) = found else { return (Self::latin(), Some(lang.texts().no_font)) };
        let is_bolder = |other: &&&FaceInfo| other.families == face.families && other.weight >= Weight::SEMIBOLD;
        let bold = faces.iter().filter(is_bolder).find(|face| covers(fonts, face, &needed)).and_then(|face| load(fonts, face));
        (Typeface { lang, bold: bold.unwrap_or_else(|| regular.clone()), regular, is_lacking: Arc::default() }, None)
    }

    /// The language that texts in this font are in.
    pub fn lang(&self) -> Lang {
        self.lang
    }

    /// One of the two weights.
    pub(super) fn font(&self, is_bold: bool) -> &FontArc {
        if is_bold { &self.bold } else { &self.regular }
    }

    /// The font that draws a character, as names of columns may have any: one of the two weights, else one of the system's. None has it where
    /// there is none, which [`Typeface::warning`] then says.
    pub(super) fn font_of(&self, is_bold: bool, c: char) -> Option<FontArc> {
        let font = self.font(is_bold);
        let found = if font.glyph_id(c).0 != 0 { Some(font.clone()) } else { other(c) };
        self.is_lacking.fetch_or(found.is_none(), Ordering::Relaxed);
        found
    }

    /// What must be said of what was drawn, in a language: that characters were missing.
    pub fn warning(&self, lang: Lang) -> Option<&'static str> {
        self.is_lacking.load(Ordering::Relaxed).then_some(lang.texts().no_glyph)
    }
}

fn system() -> &'static Database {
    SYSTEM.get_or_init(|| {
        let mut fonts = Database::new();
        fonts.load_system_fonts();
        fonts
    })
}

/// A font of the system that has a character, the families for Chinese first.
fn other(c: char) -> Option<FontArc> {
    let mut others = OTHERS.lock().unwrap_or_else(PoisonError::into_inner);
    let find = || {
        let fonts = system();
        upright(fonts).into_iter().find(|face| covers(fonts, face, c.encode_utf8(&mut [0; 4]))).and_then(|face| load(fonts, face))
    };
    others.get_or_insert_default().entry(c).or_insert_with(find).clone()
}

/// Faces that are not slanted, those that suit a picture best first.
fn upright(fonts: &Database) -> Vec<&FaceInfo> {
    let mut faces: Vec<&FaceInfo> = fonts.faces().filter(|face| face.style == Style::Normal).collect();
    faces.sort_by_key(|face| (family_rank(face), face.monospaced, face.weight.0.abs_diff(Weight::NORMAL.0)));
    faces
}

fn family_rank(face: &FaceInfo) -> usize {
    let rank = |(name, _): &(String, _)| CHINESE_FAMILIES.iter().position(|family| family == name);
    face.families.iter().filter_map(rank).min().unwrap_or(CHINESE_FAMILIES.len())
}

/// Whether the face draws every character of `text` as an outline.
fn covers(fonts: &Database, face: &FaceInfo, text: &str) -> bool {
    let draws = |font: &FontRef, c: char| {
        let glyph = font.glyph_id(c);
        glyph.0 != 0 && (c == ' ' || font.outline(glyph).is_some())
    };
    let covers =
        |data: &[u8], index| FontRef::try_from_slice_and_index(data, index).is_ok_and(|font| text.chars().all(|c| draws(&font, c)));
    fonts.with_face_data(face.id, covers).unwrap_or(false)
}

fn load(fonts: &Database, face: &FaceInfo) -> Option<FontArc> {
    fonts.with_face_data(face.id, |data, index| FontVec::try_from_vec_and_index(data.to_vec(), index).ok())?.map(FontArc::from)
}
