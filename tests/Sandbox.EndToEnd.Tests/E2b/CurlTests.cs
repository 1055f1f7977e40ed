using System.Net;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using Sandbox.EndToEnd.Tests.Harness;
using Sandbox.TestSupport;
using Xunit;

namespace Sandbox.EndToEnd.Tests.E2b;

/// <summary>curl, over TLS with a certificate that it checks: both APIs by one address, and a sandbox by its host name.</summary>
public sealed class CurlTests
{
    /// <summary>What a person would type. $1: the certificate, $2: the port, $3: a folder for files.</summary>
    private const string Script = """
        set -eu
        cd "$3"
        api="https://127.0.0.1:$2"
        curl() { command curl --silent --show-error --fail-with-body --max-time 120 --cacert "$1" --resolve "*:$port:127.0.0.1" "${@:2}"; }
        port=$2 cert=$1
        json() { python3 -c 'import json,sys; print(json.load(sys.stdin)[sys.argv[1]])' "$1"; }

        # The API of this project: create, run, follow.
        session=$(curl "$cert" -X POST "$api/v1/sessions?wait=60" -H 'content-type: application/json' -d '{"template":"python"}' | json id)
        execution=$(curl "$cert" -X POST "$api/v1/sessions/$session/executions" -H 'content-type: application/json' -d '{"shell":"echo over TLS; exit 3"}' | json id)
        curl "$cert" -N -H 'accept: text/event-stream' "$api/v1/sessions/$session/executions/$execution/output" > events
        grep -q '^event: stdout' events
        grep -q '"exitCode":3' events

        # A file up and down, the same bytes.
        head -c 3000000 /dev/urandom > up
        curl "$cert" -X PUT -T up "$api/v1/sessions/$session/files/content?path=/tmp/up" > /dev/null
        curl "$cert" -o down "$api/v1/sessions/$session/files/content?path=/tmp/up"
        cmp up down

        # E2B's API of the same sandbox, by its host name.
        id=${session#ses_}
        envd=$(curl "$cert" -X POST "$api/v2/sandboxes/$id/connect" -H 'content-type: application/json' -d '{"timeout":300}' | json envdAccessToken)
        curl "$cert" -o again -H "X-Access-Token: $envd" "https://49983-$id.sandbox.test:$port/files?path=/tmp/up"
        cmp up again
        status=$(command curl --silent --cacert "$cert" --resolve "*:$port:127.0.0.1" -o refused -w '%{http_code}' "https://49983-$id.sandbox.test:$port/files?path=/tmp/up")
        test "$status" = 401

        # Without the certificate, nothing is said at all.
        if command curl --silent --resolve "*:$port:127.0.0.1" "$api/v1/sessions"; then exit 9; fi
        curl "$cert" -X DELETE "$api/v1/sessions/$session" > /dev/null
        echo done
        """;

    [Fact]
    public async Task Curl_does_over_TLS_what_the_SDKs_do()
    {
        var folder = Directory.CreateTempSubdirectory("sandbox-curl-").FullName;
        try
        {
            var (certificate, key) = await CertificateAsync(folder);
            var config = Path.Combine(folder, "config.json");
            await File.WriteAllTextAsync(config, $$"""{"e2bDomain": "sandbox.test", "tlsCertificate": "{{certificate}}", "tlsKey": "{{key}}"}""");
            var port = Loopback.FreePort();
            await using var server = SandboxServer.PrepareAt($"https://127.0.0.1:{port}", null, "--warm-pool", "0", "--config", config);
            await server.RestartAsync();

            var ran = await CommandLine.RunProgramAsync("bash", new Dictionary<string, string>(), folder, "-c", Script, "bash", certificate, $"{port}", folder);

            Assert.True(ran.ExitCode == 0 && ran.Stdout.EndsWith("done\n", StringComparison.Ordinal), $"{ran.ExitCode}: {ran.Stdout}{ran.Stderr}\n{server.Log}");
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    private static async Task<(string Certificate, string Key)> CertificateAsync(string folder)
    {
        using var key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        var request = new CertificateRequest("CN=sandbox.test", key, HashAlgorithmName.SHA256);
        var names = new SubjectAlternativeNameBuilder();
        names.AddDnsName("*.sandbox.test");
        names.AddIpAddress(IPAddress.Loopback);
        request.CertificateExtensions.Add(names.Build());
        request.CertificateExtensions.Add(new X509BasicConstraintsExtension(true, false, 0, true));
        using var certificate = request.CreateSelfSigned(DateTimeOffset.UtcNow.AddMinutes(-5), DateTimeOffset.UtcNow.AddHours(1));
        var (pem, keyPem) = (Path.Combine(folder, "tls.pem"), Path.Combine(folder, "tls.key"));
        await File.WriteAllTextAsync(pem, certificate.ExportCertificatePem());
        await File.WriteAllTextAsync(keyPem, key.ExportPkcs8PrivateKeyPem());
        return (pem, keyPem);
    }
}
