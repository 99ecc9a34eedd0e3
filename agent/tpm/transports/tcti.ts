import { promisify } from 'node:util'
import type { Channel, Kind } from '../channel.ts'
import { fault } from '../errors.ts'
import { hex } from '../response_codes.ts'
import { inThread } from '../threads.ts'

const LIBRARY = 'libtss2-tctildr.so.0'
const LONGEST = 4096
/** TSS2_TCTI_TIMEOUT_BLOCK: not every TCTI can wait with a limit, so the limit is ours. */
const BLOCK = -1

/** Whatever tpm2-tss's loader can load: `swtpm:...`, `device:...`, `tabrmd:...`, `mssim:...` (TCG TSS 2.0 TCTI specification). */
export const tcti: Kind = {
  scheme: 'tcti',
  form: 'tcti:<TCTI of tpm2-tss>',
  help: `any TCTI string, through ${LIBRARY} and the optional package koffi`,
  open: async conf => openContext(await loadLibrary(), conf),
}

type Koffi = typeof import('koffi')
type KoffiFunction = ReturnType<ReturnType<Koffi['load']>['func']>
type Native = (...values: unknown[]) => Promise<number>
type Loader = { readonly koffi: Koffi; readonly initialize: Native; readonly finalize: Native }
/** The pointers of one TCTI context, and the context that they want back as their first argument. */
type Context = { readonly pointer: unknown; readonly transmit: Native; readonly receive: Native }

async function loadLibrary(): Promise<Loader> {
  const koffi = await import('koffi').catch(error => {
    throw fault('UNREACHABLE', 'a TCTI needs the package koffi, which is not installed (npm install koffi)', error)
  })
  try {
    const library = koffi.load(LIBRARY)
    const initialize = library.func('uint32_t Tss2_TctiLdr_Initialize(const char *conf, _Out_ void **context)')
    const finalize = library.func('void Tss2_TctiLdr_Finalize(_Inout_ void **context)')
    return { koffi, initialize: native(initialize), finalize: native(finalize) }
  } catch (error) {
    throw fault('UNREACHABLE', `a TCTI needs ${LIBRARY} of tpm2-tss, which did not load`, error)
  }
}

/** Calls on another thread, so that a TPM that thinks does not stop the event loop. */
function native(call: KoffiFunction): Native {
  const promised = promisify(call.async) as Native
  return (...values) => inThread(promised(...values))
}

async function openContext(loader: Loader, conf: string): Promise<Channel> {
  const out: unknown[] = [null]
  const result = await loader.initialize(conf, out)
  if (result !== 0) throw fault('UNREACHABLE', `tpm2-tss could not open the TCTI '${conf}' [${hex(result)}]`)
  const context = readContext(loader.koffi, out[0])
  let busy = false
  const exchange = async (command: Uint8Array) => {
    busy = true
    const response = await transmitAndReceive(context, command)
    busy = false
    return response
  }
  // a context that a native thread still waits in must not be freed: it stays until the process ends
  const close = async () => void (busy || (await loader.finalize(out)))
  return { exchange, close }
}

/** TSS2_TCTI_CONTEXT_COMMON_V1, the part that every version begins with. */
function readContext(koffi: Koffi, pointer: unknown): Context {
  const layout = koffi.struct({ magic: 'uint64_t', version: 'uint32_t', transmit: 'void *', receive: 'void *' })
  const functions = koffi.decode(pointer, layout) as { transmit: unknown; receive: unknown }
  const transmit = koffi.proto('uint32_t', ['void *', 'size_t', 'const uint8_t *'])
  const receive = koffi.proto('uint32_t', ['void *', koffi.inout('size_t *'), koffi.out('uint8_t *'), 'int32_t'])
  return {
    pointer,
    transmit: native(koffi.decode(functions.transmit, transmit)),
    receive: native(koffi.decode(functions.receive, receive)),
  }
}

async function transmitAndReceive({ pointer, transmit, receive }: Context, command: Uint8Array): Promise<Buffer> {
  const sent = await transmit(pointer, command.length, command)
  if (sent !== 0) throw fault('CLOSED', `the TCTI could not send the command [${hex(sent)}]`)
  const size = [LONGEST]
  const response = Buffer.alloc(LONGEST)
  const received = await receive(pointer, size, response, BLOCK)
  if (received !== 0) throw fault('CLOSED', `the TCTI could not receive the response [${hex(received)}]`)
  return response.subarray(0, size[0])
}
