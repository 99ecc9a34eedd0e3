/** How long to leave somebody alone who failed so many times in a row, in milliseconds: twice as long each time, up to the longest; between half of it and all
 *  of it, so that the pauses of replicas drift apart.
 *  @param chance from 0 to 1 */
export function pause(failures: number, firstMs: number, longestMs: number, chance: number): number {
  return Math.min(longestMs, firstMs * 2 ** Math.min(failures - 1, 30)) * (0.5 + chance / 2)
}
