// The doors by require().
const { VfioError, bar, device, open, registers, u32 } = require('vfio-ts');
const { EventFd } = require('vfio-ts/machine');
for (const door of ['device', 'driver', 'nvme', 'server']) require(`vfio-ts/${door}`);

open(device({ id: '1234:cafe', bars: { bar0: bar('4K', registers({ value: u32(0) })) } })).then((dev) => {
  dev[Symbol.dispose]();
  console.log(EventFd.create(7).read(), new VfioError('EBUSY', 'text').code);
});

try {
  require('vfio-ts/dist/cli.js');
} catch (error) {
  console.log(error.code);
}
