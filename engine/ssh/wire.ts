/** What is in messages, keys and certificates of SSH (RFC 4251, 5), taken off in its order.
 *  @throws RangeError when less is there than is asked for */
export type SshReader = {
  readonly byte: () => number
  readonly uint32: () => number
  readonly uint64: () => bigint
  readonly string: () => Buffer
  /** how many bytes were taken */
  readonly at: () => number
  readonly left: () => number
}

export function readSsh(bytes: Buffer): SshReader {
  let at = 0
  const take = (size: number) => {
    if (size > bytes.length - at) throw new RangeError('the bytes end before what they should hold')
    at += size
    return bytes.subarray(at - size, at)
  }
  const uint32 = () => take(4).readUInt32BE()
  return {
    byte: () => take(1).readUInt8(),
    uint32,
    uint64: () => take(8).readBigUInt64BE(),
    string: () => take(uint32()),
    at: () => at,
    left: () => bytes.length - at,
  }
}

/** Undefined for what ends too early. @throws whatever else goes wrong */
export function readable<T>(read: () => T): T | undefined {
  try {
    return read()
  } catch (error) {
    if (error instanceof RangeError) return undefined
    throw error
  }
}

/** Strings, each behind its length. */
export function sshStrings(...values: readonly (Buffer | string)[]): Buffer {
  return Buffer.concat(
    values.flatMap(value => {
      const length = Buffer.alloc(4)
      length.writeUInt32BE(Buffer.byteLength(value))
      return [length, Buffer.from(value)]
    }),
  )
}
