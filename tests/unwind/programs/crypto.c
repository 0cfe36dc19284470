/* libcrypto's digests and ciphers: assembly by hand, in part without CFI. */
#include <openssl/bn.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

static unsigned char input[1500], output[2000], key[64] = {1, 2, 3}, vector[16] = {4};

static void digest(const char *name)
{
    EVP_MD *digest = EVP_MD_fetch(NULL, name, NULL);
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    unsigned length;

    if (digest && context && EVP_DigestInit_ex(context, digest, NULL)) {
        (void)EVP_DigestUpdate(context, input, 700);
        (void)EVP_DigestFinal_ex(context, output, &length);
    }
    EVP_MD_CTX_free(context);
    EVP_MD_free(digest);
}

static void encrypt(const char *name)
{
    EVP_CIPHER *cipher = EVP_CIPHER_fetch(NULL, name, NULL);
    EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
    int length;

    for (int way = 0; cipher && context && way < 2; way++) {
        if (EVP_CipherInit_ex(context, cipher, NULL, key, vector, way)) {
            (void)EVP_CipherUpdate(context, output, &length, input, 1024);
            (void)EVP_CipherFinal_ex(context, output, &length);
        }
    }
    EVP_CIPHER_CTX_free(context);
    EVP_CIPHER_free(cipher);
}

static void exponentiate(void)
{
    BN_CTX *context = BN_CTX_new();
    BIGNUM *base = BN_bin2bn(key, 32, NULL), *modulus = BN_bin2bn(key, 64, NULL), *result = BN_new(), *exponent = BN_new();

    (void)BN_set_bit(modulus, 0);
    (void)BN_set_word(exponent, 65537);
    (void)BN_mod_exp_mont_consttime(result, base, exponent, modulus, context, NULL);
    BN_free(base);
    BN_free(modulus);
    BN_free(result);
    BN_free(exponent);
    BN_CTX_free(context);
}

__attribute__((noinline)) void step_begin(int which)
{
    static const char *const digests[] = {"MD5", "SHA1", "SHA256", "SHA512", "SHA3-256"};
    static const char *const ciphers[] = {"AES-128-CBC", "AES-256-CTR", "AES-128-GCM", "ChaCha20-Poly1305", "CAMELLIA-128-CBC"};

    for (unsigned i = 0; which == 0 && i < sizeof(digests) / sizeof(digests[0]); i++)
        digest(digests[i]);
    for (unsigned i = 0; which == 1 && i < sizeof(ciphers) / sizeof(ciphers[0]); i++)
        encrypt(ciphers[i]);
    if (which == 2)
        exponentiate();
    __asm__ volatile("");
}

__attribute__((noinline)) void step_end(void)
{
    __asm__ volatile("");
}

/* The first time, libcrypto makes itself ready: that runs freely. */
int main(int argc, char **argv)
{
    int which = argc > 1 ? argv[1][0] - '0' : 0;

    digest("MD5");
    encrypt("AES-128-CBC");
    step_begin(which);
    step_end();
    return 0;
}
