/** A TPM maker by the four bytes of its id, as the certificate has it: `id:` and eight hexadecimal digits, in capitals here. */
type Maker = { readonly id: string; readonly name: string; readonly organization?: RegExp }

/** TCG TPM Vendor ID Registry; `organization` is how the maker's own CAs call it, where that is known. */
const makers: readonly Maker[] = [
  { id: 'id:414D4400', name: 'AMD', organization: /^Advanced Micro Devices/ },
  { id: 'id:41544D4C', name: 'Atmel' },
  { id: 'id:4252434D', name: 'Broadcom' },
  { id: 'id:4353434F', name: 'Cisco' },
  { id: 'id:474F4F47', name: 'Google', organization: /^Google LLC/ },
  { id: 'id:48495349', name: 'Huawei' },
  { id: 'id:48504500', name: 'HPE' },
  { id: 'id:49424D00', name: 'IBM' },
  { id: 'id:49465800', name: 'Infineon', organization: /^Infineon Technologies/ },
  { id: 'id:494E5443', name: 'Intel', organization: /^Intel Corporation/ },
  { id: 'id:4C454E00', name: 'Lenovo' },
  { id: 'id:4D534654', name: 'Microsoft' },
  { id: 'id:4E534700', name: 'NSING', organization: /^NSING/ },
  { id: 'id:4E534D20', name: 'National Semiconductor' },
  { id: 'id:4E544300', name: 'Nuvoton', organization: /^Nuvoton Technology/ },
  { id: 'id:4E545A00', name: 'Nationz', organization: /^(NSING|Nationz)/ }, // renamed
  { id: 'id:51434F4D', name: 'Qualcomm' },
  { id: 'id:524F4343', name: 'Rockchip' },
  { id: 'id:534D534E', name: 'Samsung' },
  { id: 'id:534E5300', name: 'Sinosun' },
  { id: 'id:53544D20', name: 'STMicroelectronics', organization: /^STMicroelectronics/ },
  { id: 'id:54584E00', name: 'Texas Instruments' },
  { id: 'id:57454300', name: 'Winbond' },
]

/** Ids that simulators and swtpm give themselves: no hardware stands behind them. */
const testMakers = ['id:00001014', 'id:FFFFF1D0', 'id:53494D30', 'id:53494D31', 'id:53494D32', 'id:53494D33']

export type Identity = { readonly manufacturer: string; readonly model: string }
export type MakerRules = {
  /** ids as in the certificate; any maker of the registry when empty or left out */
  readonly allowedMakers?: readonly string[]
  /** whether TPMs made in software, and the CAs that come with them, are accepted: for development alone */
  readonly allowTestTpms: boolean
}

/**
 * Why a TPM of this maker is not accepted, or undefined.
 * @param organizations how the CAs above its certificate call themselves
 * @param commonNames the CN of every CA
 */
export function makerFault(
  tpm: Identity,
  cas: { organizations: string[]; commonNames: string[] },
  rules: MakerRules,
): string | undefined {
  const { manufacturer } = tpm
  const { allowedMakers = [], allowTestTpms } = rules
  const isTest =
    testMakers.includes(manufacturer) || /swtpm|simulator/i.test(tpm.model) || cas.commonNames.some(name => /swtpm/i.test(name))
  if (isTest && !allowTestTpms) return `${manufacturer} ${tpm.model} is a TPM made in software`
  const isListed = isAmong(allowedMakers, manufacturer)
  if (allowedMakers.length > 0 && !isListed) return `${manufacturer} is not among the allowed makers`
  if (!isTest && !isListed && !makers.some(({ id }) => id === manufacturer)) return `${manufacturer} is in no registry`
  const foreign = cas.organizations.find(organization => isForeign(organization, manufacturer))
  return foreign && `${manufacturer} under a certificate of ${foreign}`
}

/** Operators write ids in either case. */
export function isAmong(ids: readonly string[], manufacturer: string): boolean {
  return ids.some(id => id.toUpperCase() === manufacturer.toUpperCase())
}

/** A CA of one maker says nothing about a TPM of another. */
function isForeign(organization: string, manufacturer: string): boolean {
  const owners = makers.filter(maker => maker.organization?.test(organization))
  return owners.length > 0 && !owners.some(({ id }) => id === manufacturer)
}
