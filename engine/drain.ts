/** What is between being told to stop and taking nothing more: who stands in front sees at `/readyz` that requests are to go elsewhere. */
export type Drain = { readonly begun: () => boolean; readonly run: () => Promise<void> }

export function openDrain(seconds: number): Drain {
  let begun = false
  return {
    begun: () => begun,
    run: async () => {
      begun = true
      if (seconds > 0) await new Promise(resolve => setTimeout(resolve, seconds * 1000))
    },
  }
}

/** What is used of a server of Node's. */
type Server = { readonly prependListener: (event: 'request', heard: (_: unknown, reply: Reply) => void) => unknown }
type Reply = { shouldKeepAlive: boolean }

/** From now on connections end with the reply that is due next: clients come back on new ones, or elsewhere. */
export function endWithReplies(server: Server): void {
  server.prependListener('request', (_, reply) => {
    reply.shouldKeepAlive = false
  })
}
