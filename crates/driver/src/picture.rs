//! Pictures of a machine's screen: what QEMU writes, what people look at, and what text is best recognised in.

use std::io::Cursor;

use image::imageops::{self, FilterType};
use image::{DynamicImage, GrayImage, ImageFormat, ImageReader, Limits};

/// The most bytes of memory that a picture may take.
const PICTURE_MAX: u64 = 256 << 20;
/// The most pixels, across or down, of a picture.
const SIDE_MAX: u32 = 16 << 10;
/// How many times larger letters are recognised best: a console's are 16 pixels high.
const SCALE: u32 = 3;
/// A picture with more pixels is not made larger.
const SCALED_MAX: u32 = 2 << 20;

/// A picture of a screen.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Picture(DynamicImage);

/// What is made of a picture before text is looked for in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Variant {
    /// Nothing.
    Raw,
    /// Larger, grey, and from black to white.
    Positive,
    /// The same, with black and white exchanged.
    Negative,
}

impl Variant {
    /// All of them, the cheapest first.
    pub(crate) const ALL: [Self; 3] = [Self::Raw, Self::Positive, Self::Negative];
}

impl Picture {
    /// Reads what QEMU writes: a PPM file.
    pub(crate) fn from_ppm(bytes: &[u8]) -> Result<Self, String> {
        let mut reader = ImageReader::with_format(Cursor::new(bytes), ImageFormat::Pnm);
        let mut limits = Limits::default();
        limits.max_alloc = Some(PICTURE_MAX);
        limits.max_image_width = Some(SIDE_MAX);
        limits.max_image_height = Some(SIDE_MAX);
        reader.limits(limits);
        reader.decode().map(Self).map_err(|error| error.to_string())
    }

    /// The picture as a PNG file.
    pub(crate) fn to_png(&self) -> Result<Vec<u8>, String> {
        let mut bytes = Cursor::new(Vec::new());
        self.0
            .write_to(&mut bytes, ImageFormat::Png)
            .map_err(|error| error.to_string())?;
        Ok(bytes.into_inner())
    }

    /// The picture as text is looked for in it.
    pub(crate) fn variant(&self, variant: Variant) -> Self {
        if variant == Variant::Raw {
            return self.clone();
        }
        let mut grey = enlarge(stretch(self.0.to_luma8()));
        if variant == Variant::Negative {
            imageops::invert(&mut grey);
        }
        Self(grey.into())
    }
}

/// Makes the darkest pixel black and the lightest white.
fn stretch(mut grey: GrayImage) -> GrayImage {
    let darkest = grey.iter().copied().min().unwrap_or_default();
    let lightest = grey.iter().copied().max().unwrap_or_default();
    let range = u16::from(lightest.saturating_sub(darkest).max(1));
    for pixel in grey.iter_mut() {
        let value = u16::from(pixel.saturating_sub(darkest)) * u16::from(u8::MAX) / range;
        *pixel = u8::try_from(value).unwrap_or(u8::MAX);
    }
    grey
}

fn enlarge(grey: GrayImage) -> GrayImage {
    let (width, height) = grey.dimensions();
    if width.saturating_mul(height) > SCALED_MAX {
        return grey;
    }
    imageops::resize(&grey, width * SCALE, height * SCALE, FilterType::CatmullRom)
}

#[cfg(test)]
mod tests;
