import { awsSecretsManager } from './aws_secrets_manager.ts'
import { azureKeyVault } from './azure_key_vault.ts'
import { onepasswordConnect } from './onepassword_connect.ts'
import type { SecretStore } from './store.ts'
import { vaultKv } from './vault_kv.ts'

/** Every kind of store, by the name that a store is configured with. */
export const stores: Readonly<Record<string, SecretStore>> = {
  vault: vaultKv,
  aws_secrets_manager: awsSecretsManager,
  azure_key_vault: azureKeyVault,
  onepassword_connect: onepasswordConnect,
}
