import { createHash } from 'node:crypto'
import { type Row, runRows, type Table } from './conformance_rows.ts'
import {
  boot,
  command,
  encodeEvent,
  encodeHead,
  encodeLog,
  image,
  locality,
  type Made,
  separator,
  u32,
} from './eventlog_maker.ts'

const replayed = (events: readonly Made[]): Table => {
  const values = new Map<number, Buffer>()
  for (const event of events) {
    const own = values.get(event.pcr) ?? Buffer.alloc(32, event.pcr >= 17 && event.pcr <= 22 ? 0xff : 0)
    if (event.type === 0x3) own.writeUInt8(event.data.at(-1) ?? 0, 31)
    else
      values.set(
        event.pcr,
        createHash('sha256')
          .update(own)
          .update(
            createHash('sha256')
              .update(event.measured ?? event.data)
              .digest(),
          )
          .digest(),
      )
    if (event.type === 0x3) values.set(event.pcr, own)
  }
  return { sha256: Object.fromEntries([...values].map(([pcr, bytes]) => [pcr, bytes.toString('hex')])) }
}
const good = replayed(boot)
const secureBoot = boot.findIndex(({ data }) => data.includes(Buffer.from('SecureBoot', 'utf16le')))
const event = (place: number): Made => boot[place] ?? separator(0)
const log = (id: string, expected: string, bytes: Buffer, pcrs: object = good): Row => ({
  id,
  expected,
  record: { file: `${id}.bin`, pcrs },
  files: { [`${id}.bin`]: bytes },
})
const whole = encodeLog(boot)

runRows(
  'event logs',
  [
    log('E00-ok', 'OK', whole),
    log('E01-empty', 'LOG_MISSING', Buffer.alloc(0)),
    log('E03-dropped', 'LOG_MISMATCH', encodeLog(boot.toSpliced(secureBoot, 1))),
    log(
      'E05-data-changed',
      'EVENT_DATA_DIGEST',
      encodeLog(
        boot.with(secureBoot, {
          ...event(secureBoot),
          data: Buffer.concat([event(secureBoot).data.subarray(0, -1), Buffer.of(0)]),
          measured: event(secureBoot).data,
        }),
      ),
    ),
    log('E07-added', 'LOG_MISMATCH', encodeLog([...boot, command('grub_cmd:', 'boot')])),
    log('E09-count-ffffffff', 'LIMIT', Buffer.concat([encodeHead({}), u32(0), u32(1), u32(0xffffffff)])),
    log('E11-cut', 'TRUNCATED', whole.subarray(0, -7)),
    log('E14-two-localities', 'LOG_AMBIGUOUS', encodeLog([locality(0), ...boot])),
    log(
      'E16-bank-twice',
      'refuse',
      encodeLog(
        boot.with(1, {
          ...event(1),
          digests: [
            [0x000b, Buffer.alloc(32)],
            [0x000b, Buffer.alloc(32)],
          ],
        }),
      ),
    ),
    log('E18-sha1-alone', 'WEAK_BANK', encodeLog(boot, {}, ['sha1'])),
    log('E18-sha1-alone-by-header', 'WEAK_BANK', Buffer.concat([encodeHead({}, ['sha1']), ...boot.map(one => encodeEvent(one))])),
    log('E20-pcr-24', 'LIMIT', encodeLog([...boot, separator(24)])),
    log(
      'E22-tpm-1.2',
      'WEAK_BANK',
      Buffer.concat([u32(0), u32(8), Buffer.alloc(20, 1), u32(4), Buffer.from('v1.2'), Buffer.alloc(40)]),
    ),
    log('E24-unexplained', 'LOG_MISMATCH', whole, { sha256: { ...good['sha256'], 10: '11'.repeat(32) } }),
    log('E25-padding-allowed', 'OK', Buffer.concat([whole, Buffer.alloc(4096, 0xff)]), good),
    {
      id: 'E34-older-boots-beside',
      expected: 'OK',
      record: { files: ['older.bin', 'right.bin'], pcrs: good },
      files: { 'older.bin': encodeLog([...boot, image(4, 'old')]), 'right.bin': whole },
    },
  ].map(row => (row.id === 'E25-padding-allowed' ? { ...row, record: { ...row.record, padding: true } } : row)),
)
