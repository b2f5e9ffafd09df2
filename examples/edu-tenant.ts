// edu-tenant.ts
// A driver of one function of an SR-IOV device: docs/sriov.md runs it.
import { EduDriver, open } from 'vfio-ts/driver';

export async function main(address: string, { token }: { token?: string }) {
  using dev = await open(address, { match: EduDriver.ids, token }); // the token that `vfio run --vf-token-file` was given
  using edu = new EduDriver(dev);
  console.log(`10! is ${await edu.factorial(10)}`);
}
