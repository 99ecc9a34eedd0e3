/** Keeps the last `limit` bytes of what is added. */
export function lastBytes(limit: number): { add: (chunk: Uint8Array) => void; text: () => string } {
  let chunks: Uint8Array[] = []
  let length = 0
  return {
    add: chunk => {
      chunks.push(chunk)
      length += chunk.length
      if (length <= 2 * limit) return
      chunks = [kept()]
      length = limit
    },
    text: () => kept().toString('utf8'),
  }

  function kept(): Buffer {
    return Buffer.concat(chunks).subarray(-limit)
  }
}
