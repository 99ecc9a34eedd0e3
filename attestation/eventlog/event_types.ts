/** TCG_EVENTTYPE (TCG PC Client Platform Firmware Profile, Event Types): those that a rule here speaks of. */
export const eventType = {
  NO_ACTION: 0x3,
  SEPARATOR: 0x4,
  NONHOST_INFO: 0x11,
  EFI_VARIABLE_DRIVER_CONFIG: 0x80000001,
  EFI_VARIABLE_BOOT: 0x80000002,
  EFI_GPT_EVENT: 0x80000006,
  EFI_ACTION: 0x80000007,
  EFI_VARIABLE_BOOT2: 0x8000000c,
  EFI_VARIABLE_AUTHORITY: 0x800000e0,
} as const

export function nameOfType(type: number): string {
  const name = Object.entries(eventType).find(([, id]) => id === type)?.[0]
  return name === undefined ? `event type 0x${type.toString(16)}` : `EV_${name}`
}
