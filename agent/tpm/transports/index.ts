/** Every way to reach a TPM. Another one is a file beside these and a line here. */
export { device } from './device.ts'
export { tcp, unix } from './socket.ts'
export { tcti } from './tcti.ts'
