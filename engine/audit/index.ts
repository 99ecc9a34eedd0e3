/** The audit log: a hash-chained file in which an intent is durable before anything secret is made. */
export { type Audit, type AuditOptions, openAudit } from './audit.ts'
export { faults } from './chain.ts'
export type { Disk, DiskFile } from './disk.ts'
export { makeFolderOf } from './folder.ts'
export { inOrder } from './order.ts'
export { type AuditRecord, type Fields as AuditFields, type Hashed, hashed, plain, Shared } from './record.ts'
export { type AuditVerdict, type Expected, type Source, verifyAudit } from './verify.ts'
export type { Problem } from './writer.ts'
