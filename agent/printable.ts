/** One line for a terminal: it obeys control characters, so it gets none that others wrote. */
export function printable(text: string): string {
  return text.replace(/[^\P{C}]+/gu, ' ')
}
