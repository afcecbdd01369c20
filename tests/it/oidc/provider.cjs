// A real identity provider (oidc-provider), behind a server that can count what it is asked and change its keys.
const { createServer } = require('node:http');
const { generateKeyPairSync } = require('node:crypto');

const KINDS = {
  RS256: ['rsa', { modulusLength: 2048 }],
  ES256: ['ec', { namedCurve: 'P-256' }],
  EdDSA: ['ed25519', {}],
};

// One key for each algorithm, all with this in their names.
function keys(age) {
  return Object.entries(KINDS).map(([alg, [type, options]]) => {
    const { privateKey } = generateKeyPairSync(type, options);
    return { ...privateKey.export({ format: 'jwk' }), kid: `${alg}-${age}`, use: 'sig', alg };
  });
}

const client = (id, alg) => ({
  client_id: id,
  client_secret: `secret-of-${id}`,
  grant_types: ['client_credentials'],
  redirect_uris: [],
  response_types: [],
  id_token_signed_response_alg: alg,
});

async function main() {
  const { Provider } = await import(`${process.env.MODULES}/oidc-provider/lib/index.js`);
  const server = createServer();
  const asked = {};
  await new Promise((resolve) => server.listen(Number(process.env.PORT ?? 0), '127.0.0.1', resolve));
  const issuer = `http://127.0.0.1:${server.address().port}`;
  // The first of the keys for an algorithm is the one that signs.
  const provider = (jwks) => new Provider(issuer, {
    jwks: { keys: jwks },
    clients: [client('web', 'RS256'), client('gateway', 'RS256')],
    clientAuthMethods: ['client_secret_basic', 'client_secret_post'],
    enabledJWA: { idTokenSigningAlgValues: Object.keys(KINDS) },
    ttl: { ClientCredentials: 600 },
    scopes: ['orders:read'],
    features: {
      devInteractions: { enabled: false },
      clientCredentials: { enabled: true },
      introspection: { enabled: true, allowedPolicy: () => true },
      revocation: { enabled: true },
      resourceIndicators: {
        enabled: true,
        defaultResource: () => undefined,
        useGrantedResource: () => true,
        // `urn:api:RS256` is a token signed so, `urn:api:opaque` one that only we can read.
        getResourceServerInfo: (_ctx, resource) => {
          const alg = resource.split(':').at(-1);
          const info = { scope: 'orders:read', audience: 'api' };
          if (alg === 'opaque') return { ...info, accessTokenFormat: 'opaque' };
          return { ...info, accessTokenFormat: 'jwt', jwt: { sign: { alg } } };
        },
      },
    },
  });
  let all = keys(0);
  let age = 0;
  let current = provider(all).callback();
  server.on('request', (request, response) => {
    const path = request.url.split('?')[0];
    asked[path] = (asked[path] ?? 0) + 1;
    if (path === '/test/asked') return response.end(JSON.stringify(asked));
    // New keys, published beside the old ones: `rotate` signs with them at once, `announce` not yet.
    if (path === '/test/rotate' || path === '/test/announce') {
      age += 1;
      all = path === '/test/rotate' ? [...keys(age), ...all] : [...all, ...keys(age)];
      current = provider(all).callback();
      return response.end();
    }
    // What was announced signs from now on, and the oldest are gone.
    if (path === '/test/use') {
      all = all.filter((key) => key.kid.endsWith(`-${age}`));
      current = provider(all).callback();
      return response.end();
    }
    return current(request, response);
  });
  console.log(server.address().port);
}

main().catch((error) => { console.error(error); process.exit(1); });
