/** The door of the proxy: what reads its configuration and what serves it. It knows the engine, and nothing of mounts and agents. */
export { type Problem, type ProxyConfig, readConfig } from './config.ts'
export { refusals } from './refusals.ts'
export { type RunningProxy, serveProxy } from './serve.ts'
