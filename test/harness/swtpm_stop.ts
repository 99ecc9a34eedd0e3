import { once } from 'node:events'
import { connect, type NetConnectOpts, type Socket } from 'node:net'

// What a TPM hears before its power fails, so that how long it then calls its clock unsafe is not a matter of chance: an orderly stop writes the clock
// down, anything that changes a PCR takes the stop back, and a TPM that starts after that goes on from what was written. It calls its clock safe again
// when it next writes it down by itself, at a multiple of four seconds: so that is where the clock is put (TPM 2.0 Part 1, "Clock").

/** The clock is written down by the TPM when it reaches a multiple of this. */
const INTERVAL_MS = 4096n
const CC = { PCR_Event: 0x13c, ClockSet: 0x128, Shutdown: 0x145, ReadClock: 0x181 } as const
const RH_PLATFORM = 0x4000000c
/** software may not reset it: it is part of what an orderly stop keeps */
const PCR = 15
const SU_CLEAR = 0

/** TPM2_Shutdown(CLEAR), and the answer to it. */
export async function shutDown(place: NetConnectOpts): Promise<void> {
  await using line = open(place)
  await line.ask(command(0x8001, CC.Shutdown, uint16(SU_CLEAR)))
}

/** Leaves the TPM in the middle of its work, with the longest time before its clock is safe again. */
export async function interrupt(place: NetConnectOpts): Promise<void> {
  await using line = open(place)
  // TPMS_TIME_INFO: time, then clock
  const clock = (await line.ask(command(0x8001, CC.ReadClock))).readBigUInt64BE(8)
  const next = Buffer.alloc(8)
  next.writeBigUInt64BE((clock / INTERVAL_MS + 1n) * INTERVAL_MS)
  await line.ask(authorized(CC.ClockSet, RH_PLATFORM, next))
  await line.ask(command(0x8001, CC.Shutdown, uint16(SU_CLEAR)))
  await line.ask(authorized(CC.PCR_Event, PCR, Buffer.concat([uint16(1), Buffer.from('x')])))
}

function open(place: NetConnectOpts): AsyncDisposable & { ask: (bytes: Buffer) => Promise<Buffer> } {
  const socket: Socket = connect(place)
  return {
    ask: async bytes => {
      socket.write(bytes)
      const [answer] = (await once(socket, 'data')) as [Buffer]
      const code = answer.readUInt32BE(6)
      if (code !== 0) throw new Error(`the TPM answered ${code.toString(16)} to ${bytes.toString('hex')}`)
      return answer.subarray(10)
    },
    [Symbol.asyncDispose]: async () => void socket.destroy(),
  }
}

function command(tag: number, code: number, ...parts: readonly Buffer[]): Buffer {
  const body = Buffer.concat(parts)
  return Buffer.concat([uint16(tag), uint32(10 + body.length), uint32(code), body])
}

/** With the empty authorization that both hierarchies and PCRs have here. */
function authorized(code: number, handle: number, parameters: Buffer): Buffer {
  const RS_PW = 0x40000009
  const session = Buffer.concat([uint32(RS_PW), uint16(0), Buffer.of(0), uint16(0)])
  return command(0x8002, code, uint32(handle), uint32(session.length), session, parameters)
}

function uint16(value: number): Buffer {
  const bytes = Buffer.alloc(2)
  bytes.writeUInt16BE(value)
  return bytes
}

function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32BE(value)
  return bytes
}
