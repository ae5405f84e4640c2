//! How many tokens may an image have?
//!
//! The size and the quality that are asked for decide it, and no model's name: clients have names of their own for models.
//! So it is the most that any of OpenAI's image models produces for them. Not decided here: what is charged; an answer's
//! usage says that.
//!
//! gpt-image-1, 1.5 and their like draw three sizes, by a table:
//! <https://developers.openai.com/api/docs/guides/image-generation#cost-and-latency>. gpt-image-2 draws any size, by the
//! calculator of that page: so many patches along the longer edge as the quality has, in the proportion of the edges, times
//! the area. Its values are told, with their sizes, in
//! <https://community.openai.com/t/livestream-starting-now-chatgpt-images-2-0/1379464>. gpt-image-2.5 counts the same,
//! with fewer patches under most words, and `max` for what was `high`.

/// The largest area that is drawn, in pixels: 3840 x 2160. Same page.
const IMAGE_PIXELS_MAX: u64 = 8_294_400;

/// No image is longer than so many times its breadth. Same page.
const RATIO_MAX: u64 = 3;

/// A partial image of a stream has so many tokens. Same page.
const PARTIAL_IMAGE_TOKENS: u64 = 100;

/// The most partial images. <https://platform.openai.com/docs/api-reference/images/create#images_create-partial_images>
const PARTIAL_IMAGES_MAX: u64 = 3;

/// The sizes of the older models, with their tokens in low, medium and high quality. The model picks one of them where
/// none is asked for.
const SIZES: [((u32, u32), [u64; 3]); 3] =
    [((1024, 1024), [272, 1056, 4160]), ((1024, 1536), [408, 1584, 6240]), ((1536, 1024), [400, 1568, 6208])];

/// How well it is drawn.
#[derive(Clone, Copy)]
struct Quality {
    /// Patches along the longer edge.
    patches: u64,
    /// Which column of [`SIZES`].
    column: usize,
}

impl Quality {
    /// What is not known is the best.
    fn of(word: Option<&str>) -> Self {
        match word {
            Some("low") => Self { patches: 16, column: 0 },
            Some("medium") => Self { patches: 48, column: 1 },
            Some("xhigh") => Self { patches: 64, column: 2 },
            _ => Self { patches: 96, column: 2 },
        }
    }

    fn tokens(self, (width, height): (u32, u32)) -> u64 {
        let older = SIZES.iter().find(|(size, _)| *size == (width, height));
        let older = older.and_then(|(_, tokens)| tokens.get(self.column)).copied().unwrap_or_default();
        let long = u64::from(width.max(height));
        let short = u64::from(width.min(height)).max(long / RATIO_MAX);
        let across = (2 * self.patches * short + long) / (2 * long);
        let pixels = (long * short).min(IMAGE_PIXELS_MAX);
        older.max((self.patches * across * (2_000_000 + pixels)).div_ceil(4_000_000))
    }
}

/// The most tokens of an image of this size and quality, with the partial ones of a stream. A word that is no size is
/// taken for the largest, as a square.
pub(super) fn tokens(size: Option<&str>, quality: Option<&str>, is_stream: bool) -> u32 {
    const SQUARE: (u32, u32) = (2880, 2880);
    let quality = Quality::of(quality);
    let tokens = match size {
        None | Some("auto") => SIZES.iter().map(|(size, _)| quality.tokens(*size)).max().unwrap_or_default(),
        Some(size) => quality.tokens(edges(size).unwrap_or(SQUARE)),
    };
    let partial = if is_stream { PARTIAL_IMAGES_MAX * PARTIAL_IMAGE_TOKENS } else { 0 };
    u32::try_from(tokens + partial).unwrap_or(u32::MAX)
}

fn edges(size: &str) -> Option<(u32, u32)> {
    let (width, height) = size.split_once('x')?;
    let edge = |digits: &str| digits.parse::<u32>().ok().filter(|edge| *edge > 0);
    Some((edge(width)?, edge(height)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn an_image_has_the_most_that_any_model_says() {
        for (size, quality, expected) in [
            // Of the older models.
            (Some("1024x1024"), Some("low"), 272),
            (Some("1024x1536"), Some("low"), 408),
            (Some("1536x1024"), Some("low"), 400),
            (Some("1024x1536"), Some("high"), 6240),
            (Some("1536x1024"), Some("high"), 6208),
            // Of the newer ones.
            (Some("1024x1024"), Some("medium"), 1756),
            (Some("1024x1024"), Some("xhigh"), 4160),
            (Some("2048x1152"), Some("xhigh"), 2511),
            (Some("1024x1024"), Some("high"), 7024),
            (Some("1024x1024"), Some("max"), 7024),
            (Some("1792x1024"), Some("high"), 5063),
            (Some("3584x2048"), Some("high"), 12_329),
            (Some("2048x1152"), Some("low"), 157),
            (Some("2048x1152"), Some("high"), 5650),
            (Some("3840x2160"), Some("low"), 371),
            // What the model picks.
            (None, None, 7024),
            (Some("auto"), Some("auto"), 7024),
            (None, Some("low"), 408),
            (Some("1024x1024"), None, 7024),
            (Some("1024x1024"), Some("hd"), 7024),
            // No size, or one that nobody draws.
            (Some("4K"), Some("high"), 23_719),
            (Some("2880x2880"), Some("high"), 23_719),
            (Some("4294967295x4294967295"), Some("high"), 23_719),
            (Some("99999999999x1"), Some("low"), 659),
            (Some("0x1024"), Some("high"), 23_719),
            (Some("3840x1"), Some("high"), 5311),
        ] {
            assert_eq!(tokens(size, quality, false), expected, "{size:?} {quality:?}");
        }
        assert_eq!(tokens(Some("1024x1024"), Some("low"), true), 572);
    }

    proptest! {
        #[test]
        fn no_size_has_more_than_the_largest(width: u32, height: u32, quality in "low|medium|high|xhigh|max|") {
            let size = format!("{width}x{height}");
            prop_assert!(tokens(Some(&size), Some(&quality), false) <= tokens(Some("?"), Some(&quality), false));
        }
    }
}
