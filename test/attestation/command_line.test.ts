import { describe, expect, test } from 'vitest'
import { appraiseEventLogs, parseEventLog, replayEventLog } from '#attestation'
import { type CommandLineRules, faultOfCommandLines } from '../../attestation/reference/command_line.ts'
import { unwrap } from './attester.ts'
import { boot, COMMAND_LINE, command, encodeLog, type Made } from './eventlog_maker.ts'

/** What a log that is true says of command lines. */
function told(...more: readonly Made[]): readonly string[] | undefined {
  const log = encodeLog([...boot, ...more])
  const quoted = unwrap(replayEventLog(unwrap(parseEventLog(log)), 'sha256'))
  return unwrap(appraiseEventLogs([log], quoted, { bank: 'sha256', replay: [8] })).commandLines
}
const ran = (text: string) => command('grub_cmd:', text)
const booted = (text: string) => command('kernel_cmdline:', text)

describe('what GRUB hands a kernel is no command of its own', () => {
  test.each([
    ['a path', '/vmlinuz init=/bin/sh'],
    ['a disk', '(hd0,gpt2)/vmlinuz init=/bin/sh'],
    ['blocks of a disk', '2048+20000 init=/bin/sh'],
    ['blocks from its beginning on', '+20000 init=/bin/sh'],
    ['blocks by hexadecimal numbers', '0x800+20000,0x9000+8 init=/bin/sh'],
    ['a path with a space', '"/my vmlinuz" init=/bin/sh'],
    ['one that was too long', ''],
  ])('the kernel is %s', (_, line) => {
    expect(told(ran('linux somewhere else'), booted(line))).toEqual([COMMAND_LINE, line])
  })

  test('a kernel that comes over the network may be called like a command', () => {
    const line = 'vmlinuz init=/bin/sh'
    for (const loader of ['linux', 'linuxefi', 'linux16', 'multiboot2'])
      expect(told(ran(`${loader} ${line}`), booted(line))).toEqual([COMMAND_LINE, line])
    expect(told(ran('linux vmlinuz a b'), booted('vmlinuz "a b"'))).toEqual([COMMAND_LINE, 'vmlinuz "a b"'])
    expect(told(ran(`linux ${line} too-much`), booted(line))).toEqual([COMMAND_LINE, line])
  })

  test('what is no command line', () => {
    const commands = [
      'set root=hd0',
      'root=hd0',
      '[  = 2 ]',
      '. /grub/custom.cfg',
      'load_video',
      '_own',
      'menuentry "/vmlinuz" {}',
    ]
    expect(told(...commands.map(ran))).toEqual([COMMAND_LINE])
    expect(told(ran('export vmlinuz'), ran('vmlinuz'))).toEqual([COMMAND_LINE])
    expect(told(ran('linux vmlinuz ro'), ran('initrd vmlinuz'))).toEqual([COMMAND_LINE])
  })
})

const judged = (line: string, rules: CommandLineRules) => faultOfCommandLines([line], rules)?.code ?? 'OK'

describe('a word that is forbidden is found however it is written', () => {
  const rules = { forbidden: ['init=*', 'ima_appraise=off', 'systemd.debug-shell*'] }
  test.each([
    'init=/bin/sh',
    '"init=/bin/sh"',
    '"init=/opt/a shell"',
    'init="/bin/sh"',
    "'init=/bin/sh'",
    'quiet\tinit=/bin/sh',
    'quiet\u00a0init=/bin/sh',
    'quiet\ufffdinit=/bin/sh', // a byte of 0xa0 alone
    'à=init=/bin/sh init=/bin/sh',
    'ima-appraise=off',
    'ima_appraise="off"',
    'systemd.debug_shell',
    '"systemd.debug-shell=1 "',
    "systemd.debug-she'll'",
    'systemd\\.debug-shell',
    '-- init=/bin/sh',
  ])('%s', line => expect(judged(`/vmlinuz ro ${line}`, rules)).toBe('COMMAND_LINE'))

  test.each([
    'xinit=/bin/sh',
    'ima_appraise=enforce',
    'rd.init=1',
    'ima=appraise-off',
    'root=init',
    '"dm-mod.create=vroot,,,ro,0 4077568 verity"',
  ])('not %s', line => expect(judged(`/vmlinuz ro ${line}`, rules)).toBe('OK'))
})

describe('a word that is required is there as Linux reads it', () => {
  const rules = { required: ['lockdown=integrity', 'ima_policy=*'] }
  test.each([
    'lockdown=integrity ima_policy=tcb',
    'ima-policy="tcb|x y" lockdown="integrity"',
    '"lockdown=integrity" ima_policy=tcb -- x',
    'a="b c" lockdown=integrity ima_policy=',
  ])('%s', line => expect(judged(`/vmlinuz ${line}`, rules)).toBe('OK'))

  test.each([
    'lockdown=integrity',
    '"x lockdown=integrity y" ima_policy=tcb',
    'x="lockdown=integrity ima_policy=tcb y',
    'ima_policy=tcb -- lockdown=integrity',
    'ima_policy=tcb "--" lockdown=integrity',
    'ima_policy=tcb lock"down=integrity"',
    "ima_policy=tcb 'lockdown=integrity'",
    'ima_policy=tcb lockdown=integrity\u00a0x',
    'ima_policy=tcb lock_down=integrity',
  ])('not %s', line => expect(judged(`/vmlinuz ${line}`, rules)).toBe('COMMAND_LINE'))
})
