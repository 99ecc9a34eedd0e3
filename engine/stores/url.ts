/** Whether the URL's origin is the other's. */
export function sameOrigin(one: string, other: string): boolean {
  return URL.canParse(one) && URL.canParse(other) && new URL(one).origin === new URL(other).origin
}

/** Without slashes at the end, for paths to be put behind it. */
export function base(url: string): string {
  return url.replace(/\/+$/, '')
}
