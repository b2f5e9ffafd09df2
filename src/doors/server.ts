/**
 * The door to serving: devices and machines behind sockets, administering a served machine, and
 * moving a served device.
 *
 *     import { serve } from 'vfio-ts/server';
 *
 * @module vfio-ts/server
 */
export type * from '../abi/event.ts';
export { type Lender, type LendOptions, lend } from '../api/lend.ts';
export { administerMachine, MachineServer, type MachineServerOptions } from '../api/machine-server.ts';
export type { Endpoint } from '../api/migrate/endpoint.ts';
export type { Figures, Progress } from '../api/migrate/figures.ts';
export { type MoveOptions, moveDevice } from '../api/migrate/move.ts';
export { DeviceServer, type ServeAtOptions, type ServeOptions, serve } from '../api/serve.ts';
export type { ServedDevice, ServedSocket, ServingOptions } from '../api/threads/jobs.ts';
export { ServedParts, type ServePartsOptions, serveDevices, serveMachine } from '../api/threads/serve-parts.ts';
export { type Culprit, type ErrnoName, VfioError, type VfioErrorOptions } from '../base/errno.ts';
export { EventStream, type EventStreamOptions } from '../events/stream.ts';
export type { ServerLimits } from '../vfio-user/limits.ts';
