import type { Bank } from '../pcrs.ts'
import type { PcrEvent } from './event_log.ts'
import { isDigestOf } from './event_rules.ts'

/**
 * Command lines of kernels, from events whose text is what was measured; undefined when the text of any is not known, as it could
 * be another command line.
 * @param ofBootLoader PCR 8, where GRUB measures every command that it runs and then the command line
 * @param ofStub PCR 12, where systemd measures what is added to the command line of a unified kernel image
 */
export function commandLinesOf(ofBootLoader: readonly PcrEvent[], ofStub: readonly PcrEvent[], bank: Bank): string[] | undefined {
  const commands = known(ofBootLoader.map(event => textAfterSpace(event, bank)))
  const options = known(ofStub.map(event => wideText(event, bank)))
  return commands && options && [...commands.filter((text, at) => isCommandLine(text, commands[at - 1] ?? '')), ...options]
}

function known(texts: readonly (string | undefined)[]): readonly string[] | undefined {
  return texts.every(text => text !== undefined) ? texts : undefined
}

/**
 * GRUB writes before the first space which of the two it is, but no digest covers that. A command line begins with the kernel: a path, a device, blocks of a
 * disk (`0+2048`), any of these in quotes where it has a space, or nothing at all where it is too long. A kernel that comes over the network may be called
 * like a command: it is known by the command before it, which has the same words.
 * @param before what was measured before it
 */
function isCommandLine(text: string, before: string): boolean {
  return !COMMAND.test(text) || (LOADER.test(before) && bare(before).replace(/^\S+ /, '').startsWith(bare(text)))
}

/** Names of commands and functions, assignments, conditions. */
const COMMAND = /^[A-Za-z_.[]/
const LOADER = /^(?:linux|multiboot|module|xen_|legacy_kernel)/

/** A command is measured without its quotes, a command line with quotes of its own. */
function bare(text: string): string {
  return text.replaceAll(/["'\\]/g, '')
}

/** With its terminating zero or without: builds of GRUB differ. A zero within is not of GRUB, but of a text in UTF-16. */
function textAfterSpace(event: PcrEvent, bank: Bank): string | undefined {
  const text = event.data.subarray(event.data.indexOf(0x20) + 1)
  const measured = [text, text.subarray(0, -1)].find(content => isDigestOf(content, event, bank))
  const command = measured?.toString().replace(/\0$/, '')
  return command?.includes('\0') ? undefined : command
}

/** UTF-16 with a terminating zero, bare or in a TCG_PCClientTaggedEvent. */
function wideText(event: PcrEvent, bank: Bank): string | undefined {
  const measured = [event.data, event.data.subarray(8)].find(content => isDigestOf(content, event, bank))
  return measured?.toString('utf16le').replace(/\0$/, '')
}
