/** What one kind of transport brings; turn, deadline, retries and size checks come on top of it. */
export interface Channel {
  exchange(command: Uint8Array): Promise<Buffer>
  /** Ends the connection; an exchange in flight need not come to an end. */
  close(): Promise<void>
}

/** A way to reach TPMs. `form` is for help texts. */
export type Kind = {
  readonly scheme: string
  readonly form: string
  readonly help: string
  /** @param signal aborted when the caller does not wait any longer */
  open(address: string, signal: AbortSignal): Promise<Channel>
}
