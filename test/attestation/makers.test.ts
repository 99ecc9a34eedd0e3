import { describe, expect, test } from 'vitest'
import { type MakerRules, makerFault } from '../../attestation/certs/makers.ts'

const INFINEON = 'id:49465800'
const NOBODY = 'id:41424344'
type Change = {
  readonly model?: string
  readonly organizations?: string[]
  readonly commonNames?: string[]
  readonly rules?: Partial<MakerRules>
}
const anyTest = { allowTestTpms: true }

const rows: readonly (readonly [what: string, fault: string | undefined, manufacturer: string, change?: Change])[] = [
  ['a maker of the registry', undefined, INFINEON],
  ['one in no registry', 'is in no registry', NOBODY],
  ['one in no registry, but listed', undefined, NOBODY, { rules: { allowedMakers: ['id:x', NOBODY] } }],
  ['one that is not listed', 'is not among the allowed makers', INFINEON, { rules: { allowedMakers: [NOBODY] } }],
  ['one listed in other letters', undefined, 'id:4d534654', { rules: { allowedMakers: ['ID:4D534654'] } }],
  ['a list of none', undefined, INFINEON, { rules: { allowedMakers: [] } }],
  ['a TPM made in software, by its maker', 'is a TPM made in software', 'id:00001014'],
  ['by its model', 'is a TPM made in software', INFINEON, { model: 'SW SWTPM 2' }],
  ['by another one', 'is a TPM made in software', INFINEON, { model: 'the Simulator' }],
  ['by one of its CAs', 'is a TPM made in software', INFINEON, { commonNames: ['Root', 'my SWTPM-localca'] }],
  ['software, allowed', undefined, 'id:00001014', { rules: anyTest }],
  ['software, allowed and listed', undefined, 'id:00001014', { rules: { ...anyTest, allowedMakers: ['id:00001014'] } }],
  [
    'software, allowed and not listed',
    'is not among the allowed makers',
    'id:00001014',
    { rules: { ...anyTest, allowedMakers: [INFINEON] } },
  ],
  ['hardware in no registry where software is allowed', 'is in no registry', NOBODY, { rules: anyTest }],
  ['under CAs of its own', undefined, INFINEON, { organizations: ['Infineon Technologies AG'] }],
  ['under CAs of nobody known', undefined, INFINEON, { organizations: ['Some Operator', 'My Infineon Technologies'] }],
  [
    'under a CA of another maker',
    'under a certificate of STMicroelectronics NV',
    INFINEON,
    { organizations: ['Infineon Technologies AG', 'STMicroelectronics NV'] },
  ],
  [
    'under a CA of another maker, listed',
    'of NSING',
    INFINEON,
    { organizations: ['NSING'], rules: { allowedMakers: [INFINEON] } },
  ],
  ['under its CA by the new name', undefined, 'id:4E545A00', { organizations: ['NSING Technologies'] }],
  ['under its CA by the old name', undefined, 'id:4E545A00', { organizations: ['Nationz Technologies'] }],
]

describe('a maker', () => {
  test.each(rows.map(([what, fault, manufacturer, change = {}]) => [what, fault, manufacturer, change] as const))(
    '%s: %s',
    (_, fault, manufacturer, change) => {
      const { model = 'X', organizations = [], commonNames = [], rules = {} } = change
      const said = makerFault({ manufacturer, model }, { organizations, commonNames }, { allowTestTpms: false, ...rules })
      if (fault === undefined) expect(said).toBeUndefined()
      else expect([said?.startsWith(manufacturer), said?.endsWith(fault)]).toEqual([true, true])
    },
  )
})
