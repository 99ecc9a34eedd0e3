/** The audit log: a hash-chained file in which an intent is durable before anything secret is made. */
export { type Audit, type AuditOptions, openAudit } from './audit.ts'
export { type Fault, faults, type Head } from './chain.ts'
export type { Disk, DiskFile } from './disk.ts'
export { type AuditRecord, type Field as AuditField, type Fields as AuditFields, Hashed, hashed, Plain, plain } from './record.ts'
export { type AuditVerdict, type Expected, type Place, type Source, verifyAudit } from './verify.ts'
export type { Problem, Sync } from './writer.ts'
