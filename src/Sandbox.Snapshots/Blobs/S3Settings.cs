using Amazon;
using Amazon.Runtime;
using Amazon.S3;

namespace Sandbox.Snapshots.Blobs;

/// <summary>An S3 bucket, named by settings alone. Credentials are found as Amazon's tools find them: <c>AWS_ACCESS_KEY_ID</c> and <c>AWS_SECRET_ACCESS_KEY</c>, a profile, or the machine's role.</summary>
public sealed record S3Settings
{
    /// <summary>The bucket, which exists.</summary>
    public required string Bucket { get; init; }

    /// <summary>Put before every name; empty: nothing.</summary>
    public string Prefix { get; init; } = "";

    /// <summary>Address of a store that is not Amazon's, for example <c>http://10.0.0.5:9000</c>; empty: Amazon's in <see cref="Region"/>.</summary>
    public string Endpoint { get; init; } = "";

    /// <summary>Region, for example <c>eu-central-1</c>; empty: as the environment says.</summary>
    public string Region { get; init; } = "";

    /// <summary>Opens the store. Nothing is sent yet.</summary>
    /// <exception cref="ArgumentException">A name or the address is not one.</exception>
    public S3BlobStore Open()
    {
        var config = new AmazonS3Config();
        if (Region.Length > 0)
        {
            config.RegionEndpoint = RegionEndpoint.GetBySystemName(Region);
        }

        if (Endpoint.Length > 0)
        {
            if (!Uri.TryCreate(Endpoint, UriKind.Absolute, out var uri) || uri.Scheme is not ("http" or "https"))
            {
                throw new ArgumentException($"'{Endpoint}' is not the address of an S3 store; write for example http://10.0.0.5:9000.");
            }

            // What other stores than Amazon's understand.
            config.ServiceURL = Endpoint;
            config.ForcePathStyle = true;
            config.RequestChecksumCalculation = RequestChecksumCalculation.WHEN_REQUIRED;
            config.ResponseChecksumValidation = ResponseChecksumValidation.WHEN_REQUIRED;
            if (Region.Length > 0)
            {
                config.AuthenticationRegion = Region;
            }
        }

        return new S3BlobStore(new AmazonS3Client(config), Bucket, Prefix);
    }
}
