/** The door of the mounts: a front door that serves them beside a Vault. */
export { type SecretId, type Server, secretIdFrom, serve } from './serve.ts'
