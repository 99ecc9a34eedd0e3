/** Where things are when nobody says otherwise. */
export const DEFAULT_ADDRESS = 'http://127.0.0.1:8210'
export const DEFAULT_TPM = 'device:/dev/tpmrm0'
