import { expect, test } from 'vitest'
import { isAmbiguous } from '../../engine/networks.ts'

const said = [
  '10.0.0.0/8',
  '10.1.2.3/32',
  '10.1.2.3',
  '0.0.0.0/0',
  '192.0.2.128/25',
  'fd00::/8',
  '::/0',
  '::1/128',
  '2001:db8:8000::/33',
]
test.each([...said, '::ffff:10.0.0.0/104', 'example.com/8', '10.1.2.3/a'])('%s is not ambiguous', text =>
  expect(isAmbiguous(text)).toBe(false),
)

const ambiguous = ['10.1.2.3/8', '10.0.0.1/31', '192.0.2.129/25', '128.0.0.0/0', 'fd00::1/8', '::1/127', '2001:db8:8000::/32']
test.each([...ambiguous, '::ffff:10.1.2.3/104'])('%s is', text => expect(isAmbiguous(text)).toBe(true))
