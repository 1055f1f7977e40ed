using System.Security.Cryptography;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using Sandbox.Snapshots;
using Sandbox.Snapshots.Artifacts;
using Sandbox.Snapshots.Blobs;
using Sandbox.Snapshots.Keys;

namespace Sandbox.Server;

/// <summary>The snapshot store of a server, by its options: a directory or an S3 bucket.</summary>
internal static class SnapshotStorage
{
    private const string Artifacts = "artifacts";

    /// <summary>Adds the store to a silo's services. Opened when the first grain or host needs it; <see cref="Check"/> has looked at the options before.</summary>
    public static void AddSnapshotStore(this IServiceCollection services, ServerOptions options) => services.AddSingleton(s => new SnapshotStore(
        options.S3Bucket.Length > 0
            ? new S3Settings { Bucket = options.S3Bucket, Prefix = options.S3Prefix, Endpoint = options.S3Endpoint, Region = options.S3Region }.Open()
            : new FileBlobStore(DirectoryOf(options)),
        MasterKeyProvider.FromFile(KeyFileOf(options)),
        TimeProvider.System,
        s.GetRequiredService<ILogger<SnapshotStore>>()));

    /// <summary>Adds what encrypts tenants' secrets: under keys from the same master key.</summary>
    public static void AddTenantSeal(this IServiceCollection services, ServerOptions options) => services.AddSingleton(_ => new TenantSeal(MasterKeyProvider.FromFile(KeyFileOf(options))));

    /// <summary>Adds the store of the files that executions make: beside the snapshots, under keys from the same master key.</summary>
    public static void AddArtifactStore(this IServiceCollection services, ServerOptions options) => services.AddSingleton(_ => new ArtifactStore(
        options.S3Bucket.Length > 0
            ? new S3Settings { Bucket = options.S3Bucket, Prefix = options.S3Prefix.Length == 0 ? Artifacts : $"{options.S3Prefix}/{Artifacts}", Endpoint = options.S3Endpoint, Region = options.S3Region }.Open()
            : new FileBlobStore(Path.Combine(options.SnapshotDirectory.Length > 0 ? options.SnapshotDirectory : options.DataDirectory, Artifacts)),
        MasterKeyProvider.FromFile(KeyFileOf(options))));

    /// <summary>Refuses options under which a cluster could not find its snapshots again.</summary>
    /// <exception cref="ServerException">They do not fit together.</exception>
    public static void Check(ServerOptions options)
    {
        if (options.S3Bucket.Length > 0 && options.SnapshotDirectory.Length > 0)
        {
            throw new ServerException("Snapshots are kept in a directory or in an S3 bucket, not in both: leave out snapshotDirectory or s3Bucket.");
        }

        if (options.S3Bucket.Length == 0 && (options.S3Prefix.Length > 0 || options.S3Endpoint.Length > 0 || options.S3Region.Length > 0))
        {
            throw new ServerException("Settings of S3 without a bucket: name it with s3Bucket (SANDBOX_S3_BUCKET).");
        }

        if (options.Redis.Length > 0 && options.Role != ServerRole.Gateway)
        {
            if (options.S3Bucket.Length == 0 && options.SnapshotDirectory.Length == 0)
            {
                throw new ServerException(
                    "A cluster needs a snapshot store that all its hosts reach: name a directory on a shared file system with --snapshots, or an S3 bucket with SANDBOX_S3_BUCKET (and SANDBOX_S3_ENDPOINT).");
            }

            if (options.SnapshotKeyFile.Length == 0)
            {
                throw new ServerException("All hosts of a cluster encrypt snapshots under one master key: name its file, the same content on every host, with --snapshot-key. 'head -c 32 /dev/urandom >FILE' makes one.");
            }
        }
    }

    /// <summary>
    /// Key of tokens and signed addresses, derived from the master key of the snapshots: the same on all gateways that have it. A gateway without a silo and without that file has a key of its own, so that its tokens are good
    /// there only and until it is restarted.
    /// </summary>
    public static byte[] TokenKey(ServerOptions options)
    {
        if (options.Role == ServerRole.Gateway && options.SnapshotKeyFile.Length == 0)
        {
            return RandomNumberGenerator.GetBytes(32);
        }

        // Makes the file where there is none yet, as the store would.
        Directory.CreateDirectory(Path.GetDirectoryName(Path.GetFullPath(KeyFileOf(options)))!);
        return MasterKeyProvider.FromFile(KeyFileOf(options)).Derive("sandbox gateway tokens");
    }

    private static string DirectoryOf(ServerOptions options) => options.SnapshotDirectory.Length > 0 ? options.SnapshotDirectory : Path.Combine(options.DataDirectory, "snapshots");

    private static string KeyFileOf(ServerOptions options) => options.SnapshotKeyFile.Length > 0 ? options.SnapshotKeyFile : Path.Combine(options.DataDirectory, "snapshot.key");
}
