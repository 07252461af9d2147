//! How keyword search and vector search become one ranking.

/// How much of a hybrid score is the keyword part. Chosen on the questions of XQuAD (English).
const KEYWORD_SHARE: f64 = 0.7;

/// The hybrid score of a chunk, at most 1: a weighted mean of how much of the query's terms it
/// holds (BM25 over the highest score that any chunk could reach) and of its cosine. Both parts
/// mean the same whatever else is in the corpus, so that a score can be compared with a threshold,
/// and no chunk's score depends on where a list of candidates was cut.
pub(super) fn fuse(bm25: f64, ceiling: f64, cosine: f64) -> f64 {
    let keyword = if ceiling > 0.0 { bm25 / ceiling } else { 0.0 };
    let cosine = if cosine.is_nan() { 0.0 } else { cosine };
    KEYWORD_SHARE * keyword + (1.0 - KEYWORD_SHARE) * cosine
}
