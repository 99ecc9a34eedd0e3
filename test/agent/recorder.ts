import type { Transport } from '../../agent/tpm/transport.ts'

/** A transport that keeps what went over it, and can change what comes back. */
export type Recorder = AsyncDisposable & {
  transmit: (command: Uint8Array) => Promise<Buffer>
  readonly close: Transport['close']
  readonly commands: Buffer[]
  readonly responses: Buffer[]
  /** applied to each response */
  tamper: (response: Buffer, command: Buffer) => Buffer
}

export function record(transport: Transport): Recorder {
  const recorder: Recorder = {
    commands: [],
    responses: [],
    tamper: response => response,
    transmit: async command => {
      recorder.commands.push(Buffer.from(command))
      const response = recorder.tamper(Buffer.from(await transport.transmit(command)), Buffer.from(command))
      recorder.responses.push(response)
      return response
    },
    close: () => transport.close(),
    [Symbol.asyncDispose]: () => transport.close(),
  }
  return recorder
}

/** TPM_CC of a command, TPM_RC of a response. */
export const codeOf = (message: Buffer): number => message.readUInt32BE(6)
