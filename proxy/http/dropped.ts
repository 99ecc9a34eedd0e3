const REMEMBERED = 1000

/** Whether a header, in lower case, goes no further. By name, so that the expression runs once for each that is common. */
export function openDropped(pattern: RegExp): (name: string) => boolean {
  const decided = new Map<string, boolean>()
  return name => {
    const known = decided.get(name)
    if (known !== undefined) return known
    const dropped = pattern.test(name)
    if (decided.size < REMEMBERED) decided.set(name, dropped)
    return dropped
  }
}
