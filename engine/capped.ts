/** What Vault warns of when a life is cut, in its words. */
export function cappedWarning(wantedSeconds: number, leftSeconds: number): string {
  const [wanted, left] = [wantedSeconds, leftSeconds].map(shortDuration)
  return `TTL of "${wanted}" exceeded the effective max_ttl of "${left}"; TTL value is capped accordingly`
}

/** As Vault writes whole seconds: Go's form without zeros, `1h30m` and `1h1s`. */
function shortDuration(seconds: number): string {
  const parts = { h: Math.floor(seconds / 3600), m: Math.floor(seconds / 60) % 60, s: seconds % 60 }
  const shown = Object.entries(parts).flatMap(([unit, count]) => (count === 0 ? [] : [`${count}${unit}`]))
  return shown.join('') || '0s'
}
