/** The pairs of a query or of a form as Go's net/url reads them, and with it Vault: those with a semicolon or a broken escape are none. Other
 *  readers take these for something: what is help to us and none to Vault, or the other way round, would be done past us. */
export function pairsOf(encoded: string): URLSearchParams {
  const pairs = encoded.split('&').filter(pair => !BROKEN.test(pair))
  // a question mark that comes first belongs to a name, though URLSearchParams would drop it
  return new URLSearchParams(`&${pairs.join('&')}`)
}

/** Whether Go reads all of it: a form that it does not is refused. */
export function isWhole(encoded: string): boolean {
  return !BROKEN.test(encoded) && !hasTooManyPairs(encoded)
}

/** As many as Go reads since 1.24.12 and 1.25.6 (`urlmaxqueryparams`): of a query with more it reads none, before that it read all. */
const MAX_PAIRS = 10_000

export function hasTooManyPairs(encoded: string): boolean {
  return encoded.length >= MAX_PAIRS && encoded.split('&').length > MAX_PAIRS
}

const BROKEN = /%(?![\da-f]{2})|;/i
