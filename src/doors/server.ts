/**
 * The door to serving: devices and machines behind sockets, administering a served machine, and
 * moving a served device.
 *
 *     import { serve } from 'vfio-ts/server';
 *
 * @module
 */
export { administerMachine, MachineServer, type MachineServerOptions } from '../api/machine-server.ts';
export type { Endpoint } from '../api/migrate/endpoint.ts';
export type { Figures } from '../api/migrate/figures.ts';
export { type MoveOptions, moveDevice } from '../api/migrate/move.ts';
export { DeviceServer, type ServeOptions, serve } from '../api/serve.ts';
export { type ErrnoName, VfioError } from '../base/errno.ts';
