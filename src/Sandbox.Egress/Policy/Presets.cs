namespace Sandbox.Egress.Policy;

/// <summary>A named set of hosts that a tool needs.</summary>
/// <param name="Name">As policies name it.</param>
/// <param name="Description">For people: what works with it, and what else it lets out.</param>
/// <param name="Hosts">The hosts.</param>
public sealed record EgressPreset(string Name, string Description, IReadOnlyList<PresetHost> Hosts);

/// <summary>A host of a preset.</summary>
/// <param name="Host">In the form of a rule's host.</param>
/// <param name="Ports">TCP ports.</param>
public sealed record PresetHost(string Host, IReadOnlyList<int> Ports);

/// <summary>The presets that policies may name.</summary>
public static class Presets
{
    /// <summary>All, by name.</summary>
    public static IReadOnlyList<EgressPreset> All { get; } =
    [
        Make("alpine", "apk: Alpine's packages.", Web("dl-cdn.alpinelinux.org", "dl-2.alpinelinux.org", "dl-3.alpinelinux.org", "dl-4.alpinelinux.org", "dl-5.alpinelinux.org")),
        Make("anthropic", "Anthropic's API. What is sent to a model leaves the session.", Tls("api.anthropic.com")),
        Make("apt", "apt: packages of Debian and Ubuntu.", Web("deb.debian.org", "security.debian.org", "ftp.debian.org", "cdn-fastly.deb.debian.org", "snapshot.debian.org", "archive.ubuntu.com", "*.archive.ubuntu.com", "security.ubuntu.com", "ports.ubuntu.com", "ppa.launchpadcontent.net", "keyserver.ubuntu.com")),
        Make("bitbucket", "Repositories on Bitbucket, over HTTPS and SSH. Can be written to with credentials.", [.. Ports([22, 443], "bitbucket.org"), .. Tls("api.bitbucket.org", "altssh.bitbucket.org")]),
        Make("cdn", "Public libraries from jsDelivr, cdnjs, unpkg and esm.sh.", Tls("cdn.jsdelivr.net", "cdnjs.cloudflare.com", "unpkg.com", "esm.sh")),
        Make("conda", "conda and mamba: Anaconda's channels and conda-forge.", Tls("repo.anaconda.com", "conda.anaconda.org", "api.anaconda.org", "conda-static.anaconda.org", "binstar-cio-packages-prod.s3.amazonaws.com")),
        Make("crates", "cargo: crates.io and its index.", Tls("crates.io", "index.crates.io", "static.crates.io")),
        Make("docker", "Images of Docker Hub.", Tls("registry-1.docker.io", "auth.docker.io", "index.docker.io", "hub.docker.com", "production.cloudflare.docker.com", "docker-images-prod.6aa30f8b08e16409b46e0173d6de2f56.r2.cloudflarestorage.com")),
        Make("fedora", "dnf: Fedora's and EPEL's packages.", Web("mirrors.fedoraproject.org", "dl.fedoraproject.org", "download.fedoraproject.org", "codecs.fedoraproject.org")),
        Make("gcr", "Images of Google's registries.", Tls("gcr.io", "*.gcr.io", "*.pkg.dev")),
        Make("ghcr", "Images of GitHub's registry.", Tls("ghcr.io", "pkg-containers.githubusercontent.com")),
        Make("github", "Repositories, releases, raw files and the API of GitHub, over HTTPS and SSH. Can be written to with credentials.", [.. Ports([22, 443], "github.com", "ssh.github.com"), .. Tls("api.github.com", "codeload.github.com", "gist.github.com", "uploads.github.com", "*.githubusercontent.com", "github-cloud.s3.amazonaws.com", "github-releases.githubusercontent.com")]),
        Make("gitlab", "Repositories on gitlab.com, over HTTPS and SSH. Can be written to with credentials.", [.. Ports([22, 443], "gitlab.com"), .. Tls("registry.gitlab.com", "altssh.gitlab.com")]),
        Make("go", "go: the module proxy, the checksum database, toolchains.", Tls("proxy.golang.org", "sum.golang.org", "index.golang.org", "go.dev", "golang.org", "dl.google.com")),
        Make("gradle", "Gradle's distributions and plugins.", Tls("services.gradle.org", "downloads.gradle.org", "plugins.gradle.org", "plugins-artifacts.gradle.org")),
        Make("hackage", "cabal and stack: Haskell's packages.", Tls("hackage.haskell.org", "www.stackage.org", "downloads.haskell.org")),
        Make("hex", "mix and rebar3: packages of Elixir and Erlang.", Tls("hex.pm", "repo.hex.pm", "builds.hex.pm")),
        Make("homebrew", "brew: formulae and bottles.", Tls("formulae.brew.sh", "ghcr.io", "pkg-containers.githubusercontent.com")),
        Make("huggingface", "Models and data sets of Hugging Face. Can be written to with credentials.", Tls("huggingface.co", "*.huggingface.co", "hf.co", "*.hf.co")),
        Make("julia", "Julia's packages.", Tls("pkg.julialang.org", "*.pkg.julialang.org", "storage.julialang.net", "julialang-s3.julialang.org")),
        Make("kubernetes", "Images and packages of Kubernetes.", Tls("registry.k8s.io", "*.registry.k8s.io", "pkgs.k8s.io", "dl.k8s.io", "cdn.dl.k8s.io")),
        Make("maven", "mvn and gradle: Maven Central and Google's repository.", Tls("repo.maven.apache.org", "repo1.maven.org", "central.sonatype.com", "maven.google.com", "dl.google.com")),
        Make("mcr", "Images of Microsoft's registry.", Tls("mcr.microsoft.com", "*.data.mcr.microsoft.com")),
        Make("node", "Releases of Node.js.", Tls("nodejs.org")),
        Make("npm", "npm, pnpm and yarn: the npm registry.", Tls("registry.npmjs.org", "registry.yarnpkg.com", "registry.npmjs.com")),
        Make("nuget", "dotnet: packages of nuget.org.", Tls("api.nuget.org", "www.nuget.org", "globalcdn.nuget.org")),
        Make("openai", "OpenAI's API. What is sent to a model leaves the session.", Tls("api.openai.com")),
        Make("packagist", "composer: PHP's packages; most of them are fetched from GitHub (preset github).", Tls("packagist.org", "repo.packagist.org", "getcomposer.org")),
        Make("pip", "pip and uv: packages of PyPI.", Tls("pypi.org", "files.pythonhosted.org")),
        Make("playwright", "Browsers of Playwright.", Tls("cdn.playwright.dev", "playwright.download.prss.microsoft.com")),
        Make("pypi-mirrors", "Mirrors of PyPI: Tsinghua, Aliyun, USTC, and PyTorch's wheels.", Tls("pypi.tuna.tsinghua.edu.cn", "mirrors.aliyun.com", "pypi.mirrors.ustc.edu.cn", "mirrors.ustc.edu.cn", "download.pytorch.org", "download-r2.pytorch.org")),
        Make("quay", "Images of Quay.", Tls("quay.io", "cdn.quay.io", "cdn01.quay.io", "cdn02.quay.io", "cdn03.quay.io")),
        Make("r", "R: CRAN and its mirrors of Posit.", Tls("cran.r-project.org", "cloud.r-project.org", "packagemanager.posit.co", "p3m.dev")),
        Make("rubygems", "gem and bundler: Ruby's packages.", Tls("rubygems.org", "index.rubygems.org", "fastly.rubygems.org")),
        Make("rustup", "rustup: Rust's toolchains.", Tls("static.rust-lang.org", "sh.rustup.rs")),
        Make("terraform", "Providers and modules of Terraform and OpenTofu.", Tls("registry.terraform.io", "releases.hashicorp.com", "registry.opentofu.org")),
    ];

    private static readonly Dictionary<string, EgressPreset> ByName = All.ToDictionary(p => p.Name, StringComparer.Ordinal);

    /// <summary>A preset by its name, or <see langword="null"/>.</summary>
    public static EgressPreset? Find(string name) => ByName.GetValueOrDefault(name);

    private static EgressPreset Make(string name, string description, IReadOnlyList<PresetHost> hosts) => new(name, description, hosts);

    private static PresetHost[] Tls(params string[] hosts) => Ports([443], hosts);

    // Package managers of distributions speak plain HTTP and check signatures.
    private static PresetHost[] Web(params string[] hosts) => Ports([80, 443], hosts);

    private static PresetHost[] Ports(int[] ports, params string[] hosts) => [.. hosts.Select(h => new PresetHost(h, ports))];
}
