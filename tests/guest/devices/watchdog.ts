// The watchdog of examples/devices. Its computer is a line in the server's output.
import type { DeviceHost } from 'vfio-ts/device';
import watchdog from '../../../examples/devices/watchdog.ts';

export default {
  ...watchdog,
  create(host: DeviceHost) {
    const instance = watchdog.create(host);
    instance.on('reboot', () => console.log('the watchdog pulls the reset line'));
    return instance;
  },
};
